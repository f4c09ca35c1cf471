//! What only the operator may set: limits of model calls and the hosts that are trusted.

use std::process::Command;
use std::time::Duration;

use flowfleet_engine::{Services, ServicesError};
use flowfleet_mock_model::Config;

use crate::draw::Draw;
use crate::run::{Runner, plan};

const CHILD: &str = "FLOWFLEET_TEST_CHILD";

/// Runs one test of this program again, in an environment of its own.
fn again(test: &str, environment: &[(&str, &str)]) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn settings_are_read_from_the_environment_of_the_process() {
    if std::env::var_os(CHILD).is_none() {
        return again(
            "operator::settings_are_read_from_the_environment_of_the_process",
            &[
                ("FLOWFLEET_MODEL_TIMEOUT_S", "7.5"),
                ("FLOWFLEET_MODEL_FIRST_BYTE_TIMEOUT_S", "6"),
                ("FLOWFLEET_MODEL_IDLE_TIMEOUT_S", "5"),
                ("FLOWFLEET_MODEL_MAX_RETRIES", "4"),
                ("FLOWFLEET_MODEL_MAX_WAIT_S", "3"),
                ("FLOWFLEET_MODEL_HOSTS", "models.test,10.0.0.1:8000"),
            ],
        );
    }
    let services = Services::from_env().unwrap();
    let limits = services.model.limits;
    assert_eq!(limits.total, Duration::from_millis(7500));
    assert_eq!(limits.first_byte, Duration::from_secs(6));
    assert_eq!(limits.idle, Duration::from_secs(5));
    assert_eq!(limits.max_retries, 4);
    assert_eq!(limits.max_wait, Duration::from_secs(3));
    let hosts = ["models.test", "10.0.0.1:8000"].map(|host| host.parse().unwrap());
    assert_eq!(services.model.hosts, hosts);
}

#[test]
fn a_bad_setting_stops_the_process_at_its_start() {
    if std::env::var_os(CHILD).is_none() {
        return again(
            "operator::a_bad_setting_stops_the_process_at_its_start",
            &[
                ("FLOWFLEET_MODEL_TIMEOUT_S", "soon"),
                ("FLOWFLEET_MODEL_MAX_RETRIES", "-1"),
            ],
        );
    }
    let error = Services::from_env().unwrap_err();
    assert!(matches!(error, ServicesError::Settings(_)), "{error:?}");
    let said = error.to_string();
    for part in [
        "FLOWFLEET_MODEL_TIMEOUT_S",
        "\"soon\"",
        "FLOWFLEET_MODEL_MAX_RETRIES",
        "\"-1\"",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

fn one_model() -> Draw {
    Draw::new()
        .node("ChatInput-a")
        .node("LanguageModelComponent-1")
        .node("ChatOutput-z")
        .edge(
            "ChatInput-a",
            "message",
            "LanguageModelComponent-1",
            "input_value",
        )
        .edge(
            "LanguageModelComponent-1",
            "text_output",
            "ChatOutput-z",
            "input_value",
        )
}

#[tokio::test]
async fn a_run_does_not_change_the_operators_limits() {
    let failing = Config {
        fail_first: u64::MAX,
        fail_status: 503,
        retry_after_s: Some(0),
        ..Config::default()
    };
    let model = flowfleet_mock_model::spawn(failing).await.unwrap();
    let plan = plan(&one_model());
    let mut runner = Runner::new("hi").model(&model.base_url());
    for (operator, run, requests) in [(0, "5", 1), (2, "0", 3)] {
        runner.model_settings.limits.max_retries = operator;
        let variable = ("FLOWFLEET_MODEL_MAX_RETRIES".to_owned(), run.to_owned());
        runner.request.variables = [variable].into();
        let before = model.requests();
        let error = runner.run(&plan).await.result.unwrap_err();
        assert_eq!(error.code(), "model_error", "{error}");
        assert_eq!(
            model.requests() - before,
            requests,
            "operator {operator}, run {run}"
        );
    }
}

#[tokio::test]
async fn a_run_cannot_send_the_fleet_to_a_metadata_service() {
    const METADATA: &str = "http://169.254.169.254/latest";
    let plan = plan(&one_model());
    let mut runner = Runner::new("hi").model("http://127.0.0.1:9/v1");
    runner.request.variables = [
        ("OPENAI_BASE_URL".to_owned(), METADATA.to_owned()),
        ("FLOWFLEET_MODEL_HOSTS".to_owned(), "169.254.169.254".to_owned()),
    ]
    .into();
    let error = runner.run(&plan).await.result.unwrap_err();
    assert_eq!(
        (error.code(), error.retryable(), error.node()),
        ("model_address_refused", false, Some("LanguageModelComponent-1")),
        "{error}"
    );
    // A flow that names it in a field, here through a tweak, is told the same.
    let tweaked = one_openai();
    runner.request.variables.clear();
    runner.request.tweaks = serde_json::json!({"OpenAIModel-1": {"openai_api_base": METADATA}});
    let error = runner.run(&crate::run::plan(&tweaked)).await.result.unwrap_err();
    assert_eq!(error.code(), "model_address_refused", "{error}");
}

fn one_openai() -> Draw {
    Draw::new()
        .node("ChatInput-a")
        .node("OpenAIModel-1")
        .node("ChatOutput-z")
        .edge("ChatInput-a", "message", "OpenAIModel-1", "input_value")
        .edge("OpenAIModel-1", "text_output", "ChatOutput-z", "input_value")
}
