//! What the Python processes see of this process's environment: a short list, and what the operator adds.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

/// Where the network is and whom to trust there.
const PASSED: [&str; 12] = [
    "ALL_PROXY",
    "CURL_CA_BUNDLE",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TZ",
    "all_proxy",
    "https_proxy",
    "http_proxy",
];

/// Libraries that would start threads before the fork, and reports to others that nobody asked for.
const QUIET: [(&str, &str); 9] = [
    ("DO_NOT_TRACK", "true"),
    ("LANGFLOW_DO_NOT_TRACK", "true"),
    ("LANG", "C.UTF-8"),
    ("MKL_NUM_THREADS", "1"),
    ("NO_COLOR", "1"),
    ("OMP_NUM_THREADS", "1"),
    ("OPENBLAS_NUM_THREADS", "1"),
    ("RAYON_NUM_THREADS", "1"),
    ("TOKENIZERS_PARALLELISM", "false"),
];

/// The environment of the parent, and so of every child.
pub(crate) fn of_parent(
    bin: &Path,
    home: &Path,
    further: &[String],
    own: impl Fn(&str) -> Option<OsString>,
) -> BTreeMap<OsString, OsString> {
    let mut path = bin.as_os_str().to_owned();
    path.push(":/usr/local/bin:/usr/bin:/bin");
    let further = further.iter().map(|entry| match entry.split_once('=') {
        Some((name, value)) => (name, Some(value.into())),
        None => (entry.as_str(), own(entry)),
    });
    let passed = PASSED.iter().map(|name| (*name, own(name))).chain(further);
    let passed = passed.filter_map(|(name, value)| Some((OsString::from(name), value?)));
    let quiet = QUIET.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let home = [("HOME", home), ("TMPDIR", home)].map(|(name, path)| (name.into(), path.into()));
    let mut all: BTreeMap<OsString, OsString> = quiet.into_iter().chain(home).collect();
    all.insert("PATH".into(), path);
    all.extend(passed);
    all
}

/// Variables of a run that become environment of the process that runs it. A caller sets values for components, not
/// where programs and certificates are found, nor what Langflow permits.
pub(crate) fn of_run(variables: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let fits = |(name, value): &(&String, &String)| {
        !is_of_process(name) && !name.contains(['=', '\0']) && !value.contains('\0')
    };
    variables
        .iter()
        .filter(fits)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn is_of_process(name: &str) -> bool {
    const PREFIXES: [&str; 9] = [
        "BASH_",
        "DYLD_",
        "FLOWFLEET_",
        "GIT_",
        "LANGFLOW_",
        "LD_",
        "LFX_",
        "PYTHON",
        "XDG_",
    ];
    const NAMES: [&str; 8] = [
        "ENV",
        "HOME",
        "IFS",
        "OPENSSL_CONF",
        "PATH",
        "SHELL",
        "TMPDIR",
        "USER",
    ];
    let upper = name.to_ascii_uppercase();
    upper.is_empty()
        || NAMES.contains(&upper.as_str())
        || PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
        || PASSED.iter().any(|passed| passed.eq_ignore_ascii_case(&upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_gets_a_short_list() {
        let own = |name: &str| Some(OsString::from(format!("own {name}")));
        let further = ["LANGFLOW_SSRF_PROTECTION_ENABLED=false", "HF_HOME"].map(str::to_owned);
        let found = of_parent(Path::new("/v/bin"), Path::new("/h"), &further, own);
        let get = |name: &str| found.get(&OsString::from(name)).and_then(|value| value.to_str());
        assert_eq!(get("PATH"), Some("/v/bin:/usr/local/bin:/usr/bin:/bin"));
        assert_eq!(get("HOME"), Some("/h"));
        assert_eq!(get("HTTPS_PROXY"), Some("own HTTPS_PROXY"));
        assert_eq!(get("LANGFLOW_SSRF_PROTECTION_ENABLED"), Some("false"));
        assert_eq!(get("HF_HOME"), Some("own HF_HOME"));
        for hidden in ["FLOWFLEET_STORE_URL", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY"] {
            assert_eq!(get(hidden), None, "{hidden}");
        }
    }

    #[test]
    fn a_run_sets_values_and_not_the_process() {
        let names = [
            "OPENAI_API_KEY",
            "PATH",
            "ld_preload",
            "PYTHONPATH",
            "LANGFLOW_SSRF_PROTECTION_ENABLED",
            "https_proxy",
            "A=B",
            "MY_TOKEN",
        ];
        let variables = names
            .iter()
            .map(|name| ((*name).to_owned(), "v".to_owned()))
            .collect();
        let found = of_run(&variables);
        let found: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(found, ["MY_TOKEN", "OPENAI_API_KEY"]);
    }
}
