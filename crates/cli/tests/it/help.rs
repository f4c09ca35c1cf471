//! Help, completions, version.

use crate::program::call;

/// Every command line that has help of its own.
const COMMANDS: [&str; 33] = [
    "",
    "up",
    "demo",
    "run",
    "flows",
    "flows push",
    "flows list",
    "flows show",
    "flows rm",
    "submit",
    "runs",
    "runs list",
    "runs show",
    "runs events",
    "runs cancel",
    "runs replay",
    "runs explain",
    "fleet",
    "fleet status",
    "fleet workers",
    "keys",
    "keys create",
    "keys list",
    "keys revoke",
    "migrate",
    "doctor",
    "mock-model",
    "completions",
    "version",
    "help",
    "help runs",
    "help flows push",
    "help submit",
];

#[test]
fn every_command_has_help_with_examples() {
    for command in COMMANDS {
        let mut args: Vec<&str> = command.split_whitespace().collect();
        if args.first() != Some(&"help") {
            args.push("--help");
        }
        let ended = call(&args).expect(0);
        assert!(ended.out.contains("Usage:"), "{command}: {}", ended.out);
        assert!(ended.out.contains("Examples:"), "{command}: {}", ended.out);
        assert!(
            !ended.out.contains('\x1b'),
            "{command} colours where no terminal is"
        );
    }
}

#[test]
fn completions_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ended = call(&["completions", shell]).expect(0);
        assert!(ended.out.contains("mock-model"), "{shell}");
    }
    call(&["completions", "csh"]).expect(2);
}

#[test]
fn version() {
    let said = format!("flowfleet {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(call(&["version"]).expect(0).out, said);
    assert_eq!(call(&["--version"]).expect(0).out, said);
    assert_eq!(
        call(&["version", "--json"]).expect(0).json()["version"],
        env!("CARGO_PKG_VERSION")
    );
}
