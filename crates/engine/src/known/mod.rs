//! Which component a node's code is, by the sha256 of that code.
//!
//! Nodes carry Python. The native engine stands in for a node only if it knows the code, byte for byte, as one of the
//! released versions that were compared with the native implementation. The list is made by `generate.py`.

use std::collections::HashMap;
use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use crate::component::Kind;

const LIST: &str = include_str!("components.tsv");

static KNOWN: LazyLock<HashMap<&'static str, Kind>> =
    LazyLock::new(|| LIST.lines().filter_map(entry).collect());

/// One line of the list: sha256, kind, class, releases.
fn entry(line: &'static str) -> Option<(&'static str, Kind)> {
    let mut columns = line.split('\t');
    let digest = columns.next().filter(|digest| digest.len() == 64)?;
    Some((digest, kind_named(columns.next()?)?))
}

fn kind_named(name: &str) -> Option<Kind> {
    Some(match name {
        "ChatInput" => Kind::ChatInput,
        "ChatOutput" => Kind::ChatOutput,
        "EarlyChatOutput" => Kind::EarlyChatOutput,
        "TextInput" => Kind::TextInput,
        "TextOutput" => Kind::TextOutput,
        "Prompt" => Kind::Prompt,
        "LanguageModel" => Kind::LanguageModel,
        "OpenAiModel" => Kind::OpenAiModel,
        "Parser" => Kind::Parser,
        "ConditionalRouter" => Kind::ConditionalRouter,
        "Agent" => Kind::Agent,
        "TimedAgent" => Kind::TimedAgent,
        "Calculator" => Kind::Calculator,
        "CurrentDate" => Kind::CurrentDate,
        "Webhook" => Kind::Webhook,
        "File" => Kind::File,
        "SplitText" => Kind::SplitText,
        "EarlySplitText" => Kind::EarlySplitText,
        "CombineText" => Kind::CombineText,
        "TypeConverter" => Kind::TypeConverter,
        "SaveToFile" => Kind::SaveToFile,
        "StructuredOutput" => Kind::StructuredOutput,
        "BatchRun" => Kind::BatchRun,
        "Url" => Kind::Url,
        "WebSearch" => Kind::WebSearch,
        "MessageHistory" => Kind::MessageHistory,
        "MemoryBase" => Kind::MemoryBase,
        "Loop" => Kind::Loop,
        "ArXiv" => Kind::ArXiv,
        "Knowledge" => Kind::Knowledge,
        "KnowledgeIngestion" => Kind::KnowledgeIngestion,
        "KnowledgeBase" => Kind::KnowledgeBase,
        "ApiRequest" => Kind::ApiRequest,
        "EarlyApiRequest" => Kind::EarlyApiRequest,
        "DataOperations" => Kind::DataOperations,
        "EarlyDataOperations" => Kind::EarlyDataOperations,
        _ => return None,
    })
}

/// Where each known version was found: releases, from the oldest on.
pub(crate) fn releases() -> impl Iterator<Item = (Kind, &'static str)> {
    LIST.lines().filter_map(|line| {
        let (_, kind) = entry(line)?;
        Some((kind, line.split('\t').nth(3)?))
    })
}

/// The component this code is, if it is one whose behaviour the native implementation reproduces.
pub(crate) fn kind_of(code: &str) -> Option<Kind> {
    KNOWN.get(hex(&Sha256::digest(code.as_bytes())).as_str()).copied()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::Value as Json;

    use super::*;

    #[test]
    fn every_line_of_the_list_is_understood() {
        let lines = LIST
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .count();
        assert_eq!(KNOWN.len(), lines);
        assert!(KNOWN.keys().all(|digest| {
            digest
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        }));
        let kinds: std::collections::BTreeSet<Kind> = KNOWN.values().copied().collect();
        assert_eq!(kinds.len(), 36, "a kind without any code: {kinds:?}");
    }

    #[test]
    fn code_that_is_not_listed_is_nobodys() {
        assert_eq!(kind_of(""), None);
        assert_eq!(kind_of("class ChatInput(ChatComponent): ..."), None);
        assert_eq!(
            hex(&Sha256::digest(b"")),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    /// The released wheels, unpacked by `tests/wheels.sh`.
    fn wheels() -> PathBuf {
        std::env::var_os("FLOWFLEET_TEST_WHEELS")
            .map(PathBuf::from)
            .unwrap_or_else(|| {
                let cache = std::env::var_os("XDG_CACHE_HOME")
                    .map(PathBuf::from)
                    .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
                cache.join("flowfleet/wheels")
            })
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{}: {error}; run tests/wheels.sh", path.display()))
    }

    #[test]
    fn the_starter_flow_basic_prompting_is_known() {
        let path = "langflow_base-1.13.0/langflow/initial_setup/starter_projects/Basic Prompting.json";
        let flow: Json = serde_json::from_str(&read(&wheels().join(path))).unwrap();
        let mut kinds = Vec::new();
        for node in flow["data"]["nodes"].as_array().unwrap() {
            if let Some(code) = node["data"]["node"]["template"]["code"]["value"].as_str() {
                let kind = kind_of(code);
                assert!(kind.is_some(), "{} is not known", node["data"]["id"]);
                assert_eq!(
                    kind_of(&format!("{code} ")),
                    None,
                    "edited code must not be trusted"
                );
                kinds.extend(kind);
            }
        }
        kinds.sort_unstable();
        assert_eq!(
            kinds,
            [
                Kind::ChatInput,
                Kind::ChatOutput,
                Kind::Prompt,
                Kind::LanguageModel
            ]
        );
    }

    #[test]
    fn the_current_release_is_known() {
        let components = wheels().join("lfx-1.13.0/lfx/components");
        let cases = [
            ("input_output/chat.py", Kind::ChatInput),
            ("input_output/chat_output.py", Kind::ChatOutput),
            ("input_output/text.py", Kind::TextInput),
            ("input_output/text_output.py", Kind::TextOutput),
            ("models_and_agents/prompt.py", Kind::Prompt),
            ("models_and_agents/language_model.py", Kind::LanguageModel),
            ("processing/parser.py", Kind::Parser),
            ("flow_controls/conditional_router.py", Kind::ConditionalRouter),
            ("models_and_agents/agent.py", Kind::Agent),
            ("utilities/calculator_core.py", Kind::Calculator),
            ("utilities/current_date.py", Kind::CurrentDate),
            ("input_output/webhook.py", Kind::Webhook),
            ("data_source/url.py", Kind::Url),
            ("data_source/web_search.py", Kind::WebSearch),
            ("models_and_agents/memory.py", Kind::MessageHistory),
            ("files_and_knowledge/memory_retrieval.py", Kind::MemoryBase),
            ("flow_controls/loop.py", Kind::Loop),
            ("files_and_knowledge/knowledge.py", Kind::Knowledge),
            ("files_and_knowledge/ingestion.py", Kind::KnowledgeIngestion),
            ("files_and_knowledge/retrieval.py", Kind::KnowledgeBase),
        ];
        for (file, kind) in cases {
            assert_eq!(kind_of(&read(&components.join(file))), Some(kind), "{file}");
        }
    }
}
