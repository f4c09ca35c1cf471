//! The layers of settings: who wins, how text is read by type, what is refused with which words, what is masked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use flowfleet_runtime::settings::{Backends, ConfigError, Secret, SecretUrl, load_from, print_redacted};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    store_url: SecretUrl,
    slots: u32,
    lease_s: f64,
    queues: Vec<String>,
    quiet: bool,
    name: Option<String>,
    most: Option<u32>,
    api_key: Secret,
    limits: Limits,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Limits {
    body_bytes: usize,
    runs: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 100,
            runs: 10,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            store_url: "sqlite:x.db".into(),
            slots: 64,
            lease_s: 30.0,
            queues: vec!["default".to_owned()],
            quiet: false,
            name: None,
            most: None,
            api_key: Secret::default(),
            limits: Limits::default(),
        }
    }
}

struct Given {
    dir: tempfile::TempDir,
    file: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    flags: Table,
}

fn given() -> Given {
    Given {
        dir: tempfile::tempdir().unwrap(),
        file: None,
        environment: BTreeMap::new(),
        flags: Table::new(),
    }
}

impl Given {
    fn file(mut self, text: &str) -> Self {
        let path = self.dir.path().join("worker.toml");
        std::fs::write(&path, text).unwrap();
        self.file = Some(path);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn flag(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.flags.insert(key.to_owned(), value.into());
        self
    }

    fn load(self) -> Result<Settings, ConfigError> {
        load_from(
            self.file.as_deref(),
            &|name| self.environment.get(name).cloned(),
            self.flags,
        )
    }
}

#[test]
fn layers_in_their_order() {
    assert_eq!(given().load().unwrap(), Settings::default());
    let slots = |given: Given| given.load().unwrap().slots;
    assert_eq!(slots(given().file("slots = 1")), 1);
    assert_eq!(slots(given().file("slots = 1").env("FLOWFLEET_SLOTS", "2")), 2);
    assert_eq!(
        slots(
            given()
                .file("slots = 1")
                .env("FLOWFLEET_SLOTS", "2")
                .flag("slots", 3)
        ),
        3
    );
    assert_eq!(
        slots(given().env("FLOWFLEET_OTHER", "9").env("FLOWFLEET_SLOT", "9")),
        64
    );
}

#[test]
fn the_environment_is_read_by_the_type_of_the_default() {
    let settings = given()
        .env("FLOWFLEET_STORE_URL", "postgres://a:b@c/d")
        .env("FLOWFLEET_LEASE_S", "12")
        .env("FLOWFLEET_QUEUES", "a, b,,c")
        .env("FLOWFLEET_QUIET", "yes")
        .env("FLOWFLEET_NAME", "7")
        .env("FLOWFLEET_MOST", "7")
        .env("FLOWFLEET_LIMITS_RUNS", "3")
        .file("[limits]\nbody_bytes = 5\nruns = 4\n")
        .load()
        .unwrap();
    assert_eq!(settings.store_url.expose(), "postgres://a:b@c/d");
    assert_eq!(settings.lease_s, 12.0);
    assert_eq!(settings.queues, ["a", "b", "c"]);
    assert!(settings.quiet);
    assert_eq!(settings.name.as_deref(), Some("7"));
    assert_eq!(settings.most, Some(7));
    assert_eq!(
        settings.limits,
        Limits {
            body_bytes: 5,
            runs: 3
        }
    );
}

#[test]
fn a_secret_may_lie_in_a_file() {
    let secrets = given();
    let path = secrets.dir.path().join("key");
    std::fs::write(&path, "s3cret\n").unwrap();
    let name = path.to_str().unwrap().to_owned();
    let settings = secrets.env("FLOWFLEET_API_KEY_FILE", &name).load().unwrap();
    assert_eq!(settings.api_key.expose(), "s3cret");

    let both = given()
        .env("FLOWFLEET_API_KEY", "a")
        .env("FLOWFLEET_API_KEY_FILE", &name)
        .load()
        .unwrap_err();
    assert!(
        both.to_string().contains("FLOWFLEET_API_KEY_FILE is set as well"),
        "{both}"
    );
    let missing = given()
        .env("FLOWFLEET_API_KEY_FILE", "/no/such/file")
        .load()
        .unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("/no/such/file (named by FLOWFLEET_API_KEY_FILE)"),
        "{missing}"
    );
}

#[test]
fn refusals_say_where_and_what() {
    for (given, expected) in [
        (
            given().file("slotz = 1"),
            "key \"slotz\" is not known; did you mean \"slots\"?",
        ),
        (given().file("store = 'x'"), "did you mean \"store_url\"?"),
        (given().file("zzzzzz = 1"), "key \"zzzzzz\" is not known"),
        (
            given().file("[limits]\nbody_byte = 1"),
            "key \"limits.body_byte\" is not known; did you mean \"body_bytes\"?",
        ),
        (given().file("slots = 'many'"), "worker.toml: slots:"),
        (given().file("slots = "), "is not valid TOML"),
        (given().env("FLOWFLEET_SLOTS", "many"), "FLOWFLEET_SLOTS: slots:"),
        (given().env("FLOWFLEET_SLOTS", "-1"), "FLOWFLEET_SLOTS: slots:"),
        (given().env("FLOWFLEET_QUIET", "maybe"), "FLOWFLEET_QUIET: quiet:"),
        (given().flag("slots", "x"), "flag --slots: slots:"),
        (given().flag("slotz", 1), "key \"slotz\" is not known"),
    ] {
        let error = given.load().unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} should contain {expected:?}");
    }
    let missing: Result<Settings, _> = load_from(Some("/no/such.toml".as_ref()), &|_| None, Table::new());
    assert!(missing.unwrap_err().to_string().contains("/no/such.toml"));
}

#[test]
fn a_reference_to_a_secret_is_never_taken_for_the_secret() {
    let dir = given();
    let path = dir.dir.path().join("url");
    std::fs::write(&path, "aws-secret:prod/db#url\n").unwrap();
    let path = path.to_str().unwrap().to_owned();
    for (given, origin, variable) in [
        (
            given().file("store_url = 'aws-secret:prod/db#url'"),
            "worker.toml: store_url:",
            "FLOWFLEET_STORE_URL",
        ),
        (
            given().env("FLOWFLEET_API_KEY", " AWS-Secret:prod#key"),
            "FLOWFLEET_API_KEY: api_key:",
            "FLOWFLEET_API_KEY",
        ),
        (
            given().env("FLOWFLEET_STORE_URL_FILE", &path),
            "FLOWFLEET_STORE_URL_FILE: store_url:",
            "FLOWFLEET_STORE_URL",
        ),
        (
            given().flag("store_url", "aws-secret:x"),
            "flag --store-url: store_url:",
            "FLOWFLEET_STORE_URL",
        ),
        (
            given().file("queues = ['a', 'aws-secret:x']"),
            "worker.toml: queues:",
            "FLOWFLEET_QUEUES",
        ),
        (
            given().file("[limits]\nruns = 'aws-secret:x'"),
            "worker.toml: limits.runs:",
            "FLOWFLEET_LIMITS_RUNS",
        ),
        (
            given().env("FLOWFLEET_LIMITS_RUNS", "aws-secret:x"),
            "FLOWFLEET_LIMITS_RUNS: limits.runs:",
            "FLOWFLEET_LIMITS_RUNS",
        ),
    ] {
        let error = given.load().unwrap_err().to_string();
        assert!(error.contains(origin), "{error:?} should contain {origin:?}");
        let advice = format!("not available in this build; use {variable}_FILE or {variable}");
        assert!(error.ends_with(&advice), "{error}");
        assert!(!error.contains("prod"), "{error}");
    }
    // Only at the start: elsewhere it is text like any other.
    let settings = given().env("FLOWFLEET_NAME", "not-aws-secret:x").load().unwrap();
    assert_eq!(settings.name.as_deref(), Some("not-aws-secret:x"));
}

#[test]
fn printed_settings_hold_no_secret_and_read_back() {
    let mut settings = Settings {
        api_key: Secret::new("hunter2"),
        ..Settings::default()
    };
    settings.store_url = "amqp://u:hunter2@h/v".into();
    let printed = print_redacted(&settings);
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(printed.contains("store_url = \"amqp://u:***@h/v\""), "{printed}");
    assert!(printed.contains("# name is not set"), "{printed}");
    assert!(printed.contains("\n[limits]\n"), "{printed}");
    let back = given()
        .file(&print_redacted(&Settings::default()))
        .load()
        .unwrap();
    assert_eq!(back, Settings::default());
}

#[test]
fn plain_strings_are_redacted_by_name_and_shape() {
    #[derive(Serialize)]
    struct Plain {
        queue_url: &'static str,
        webhook_token: &'static str,
        keys: Vec<&'static str>,
    }
    let printed = print_redacted(&Plain {
        queue_url: "amqp://a:bbbb@c",
        webhook_token: "dddd",
        keys: vec!["fine"],
    });
    assert!(
        !printed.contains("bbbb") && !printed.contains("dddd"),
        "{printed}"
    );
    assert!(printed.contains("fine"), "{printed}");
}

#[test]
fn backends_have_embedded_defaults() {
    let backends: Backends = load_from(None, &|_| None, Table::new()).unwrap();
    assert_eq!(backends.store_url.expose(), "sqlite:.flowfleet/flowfleet.db");
    assert_eq!(backends.queue_url.expose(), "memory:");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The last layer that names a key wins, whatever the others say.
    #[test]
    fn the_highest_layer_wins(file in any::<Option<u32>>(), env in any::<Option<u32>>(), flag in any::<Option<u32>>()) {
        let mut layers = given();
        if let Some(n) = file { layers = layers.file(&format!("slots = {n}")); }
        if let Some(n) = env { layers = layers.env("FLOWFLEET_SLOTS", &n.to_string()); }
        if let Some(n) = flag { layers = layers.flag("slots", i64::from(n)); }
        prop_assert_eq!(layers.load().unwrap().slots, flag.or(env).or(file).unwrap_or(64));
    }

    #[test]
    fn any_file_is_survived(text in ".{0,60}", value in ".{0,30}") {
        let _ = given().file(&text).env("FLOWFLEET_LEASE_S", &value).env("FLOWFLEET_MOST", &value).load();
    }

    #[test]
    fn text_from_the_environment_arrives_unchanged(text in "[^\0]{0,40}") {
        prop_assert_eq!(given().env("FLOWFLEET_NAME", &text).load().unwrap().name, Some(text));
    }
}
