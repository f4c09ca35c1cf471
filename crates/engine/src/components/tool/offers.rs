//! What components offer to models as tools. The words are part of what a flow does: a model decides by them.

use serde_json::{Map, Value as Json, json};

use super::super::{calculator, current_date, knowledge, memory_base, message_history, url, web_search};
use crate::component::Kind;

/// What the model fills in.
#[derive(Debug)]
pub(super) struct Argument {
    pub(super) name: &'static str,
    description: &'static str,
    takes: Takes,
    /// Without one the model has to say something.
    pub(super) default: Option<&'static str>,
}

/// What an argument may be.
#[derive(Debug)]
enum Takes {
    Text,
    Texts,
    OneOf(&'static [&'static str]),
}

/// One tool.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) arguments: &'static [Argument],
    /// The output that answers.
    pub(super) output: &'static str,
}

/// What nodes of a kind offer: a tool for each output that can be one.
pub(super) fn offers(kind: Kind) -> &'static [Offer] {
    static CALCULATOR: [Offer; 1] = [Offer {
        name: "evaluate_expression",
        description: "Perform basic arithmetic operations on a given expression.",
        arguments: &[Argument {
            name: "expression",
            description: "The arithmetic expression to evaluate (e.g., '4*4*(33/22)+12-20').",
            takes: Takes::Text,
            default: Some(""),
        }],
        output: calculator::OUTPUT,
    }];
    static CURRENT_DATE: [Offer; 1] = [Offer {
        name: "get_current_date",
        description: "Returns the current date and time in the selected timezone.",
        arguments: &[Argument {
            name: "timezone",
            description: "Select the timezone for the current date and time.",
            takes: Takes::Text,
            default: Some("UTC"),
        }],
        output: current_date::OUTPUT,
    }];
    static MEMORY_BASE: [Offer; 1] = [Offer {
        name: "retrieve_memory",
        description: "Retrieve long-term memory from a Memory Base attached to this workflow. When 'Filter by Session' \
                      is off, queries run across all sessions.",
        arguments: &[Argument {
            name: "search_query",
            description: "Query used for semantic retrieval against the memory base.",
            takes: Takes::Text,
            default: Some(""),
        }],
        output: memory_base::OUTPUT,
    }];
    const HISTORY: &str =
        "Stores or retrieves stored chat messages from Langflow tables or an external memory.";
    const HISTORY_ARGUMENTS: &[Argument] = &[
        Argument {
            name: "message",
            description: "The chat message to be stored.",
            takes: Takes::Text,
            default: Some(""),
        },
        Argument {
            name: "order",
            description: "Order of the messages.",
            takes: Takes::OneOf(&["Ascending", "Descending"]),
            default: None,
        },
    ];
    static MESSAGE_HISTORY: [Offer; 2] = [
        Offer {
            name: "retrieve_messages_as_text",
            description: HISTORY,
            arguments: HISTORY_ARGUMENTS,
            output: message_history::TEXT,
        },
        Offer {
            name: "retrieve_messages_dataframe",
            description: HISTORY,
            arguments: HISTORY_ARGUMENTS,
            output: message_history::TABLE,
        },
    ];
    static URL: [Offer; 1] = [Offer {
        name: "fetch_content",
        description: "Fetch content from one or more web pages, following links recursively.",
        arguments: &[Argument {
            name: "urls",
            description: "Enter one or more URLs to crawl recursively, by clicking the '+' button.",
            takes: Takes::Texts,
            default: Some(""),
        }],
        output: url::TABLE,
    }];
    static WEB_SEARCH: [Offer; 1] = [Offer {
        name: "perform_search",
        description: "Search the web, news, or RSS feeds.",
        arguments: &[
            Argument {
                name: "search_mode",
                description: "Choose search mode: Web (DuckDuckGo), News (Google News), or RSS (Feed Reader)",
                takes: Takes::OneOf(&web_search::MODES),
                default: Some("Web"),
            },
            Argument {
                name: "query",
                description: "Search keywords for news articles.",
                takes: Takes::Text,
                default: None,
            },
        ],
        output: web_search::OUTPUT,
    }];
    static FILE: [Offer; 1] = [Offer {
        name: "load_files_message",
        // Says which files there are, and comes from the node.
        description: "",
        arguments: &[],
        output: "message",
    }];
    const MODES: [&str; 2] = [knowledge::BRING, knowledge::FIND];
    const QUESTION: Argument = Argument {
        name: "search_query",
        description: "Optional search query to filter knowledge base data.",
        takes: Takes::Text,
        default: Some(""),
    };
    const fn mode(default: &'static str) -> Argument {
        Argument {
            name: "mode",
            description: "Switch between writing new data into the knowledge base and querying it.",
            takes: Takes::OneOf(&MODES),
            default: Some(default),
        }
    }
    const FOUND: &str = "Returns the data from the selected knowledge base.";
    static KNOWLEDGE: [Offer; 2] = [
        Offer {
            name: "build_kb_info",
            description: "Ingest into or retrieve from a Langflow knowledge base.",
            arguments: &[mode(knowledge::BRING), QUESTION],
            output: knowledge::KEPT,
        },
        Offer {
            name: "retrieve_data",
            description: FOUND,
            arguments: &[mode(knowledge::BRING), QUESTION],
            output: knowledge::FOUND,
        },
    ];
    static KNOWLEDGE_INGESTION: [Offer; 1] = [Offer {
        name: "build_kb_info",
        description: "Create or update knowledge in Langflow.",
        arguments: &[mode(knowledge::BRING), QUESTION],
        output: knowledge::KEPT,
    }];
    static KNOWLEDGE_BASE: [Offer; 1] = [Offer {
        name: "retrieve_data",
        description: FOUND,
        arguments: &[mode(knowledge::FIND), QUESTION],
        output: knowledge::FOUND,
    }];
    match kind {
        Kind::Knowledge => &KNOWLEDGE,
        Kind::KnowledgeIngestion => &KNOWLEDGE_INGESTION,
        Kind::KnowledgeBase => &KNOWLEDGE_BASE,
        Kind::File => &FILE,
        Kind::Calculator => &CALCULATOR,
        Kind::CurrentDate => &CURRENT_DATE,
        Kind::MemoryBase => &MEMORY_BASE,
        Kind::MessageHistory => &MESSAGE_HISTORY,
        Kind::Url => &URL,
        Kind::WebSearch => &WEB_SEARCH,
        _ => &[],
    }
}

impl Argument {
    pub(super) fn schema(&self) -> Json {
        let mut schema = Map::new();
        if let Some(default) = self.default {
            schema.insert("default".to_owned(), default.into());
        }
        schema.insert("description".to_owned(), self.description.into());
        let kind = match self.takes {
            Takes::Text => "string",
            Takes::Texts => {
                schema.insert("items".to_owned(), json!({"type": "string"}));
                "array"
            }
            Takes::OneOf(choices) => {
                schema.insert("enum".to_owned(), choices.iter().copied().collect());
                "string"
            }
        };
        schema.insert("type".to_owned(), kind.into());
        Json::Object(schema)
    }

    /// What is wrong with what the model says, in pydantic's words.
    pub(super) fn complaints(&self, given: Option<&Json>) -> Vec<String> {
        let Some(given) = given else {
            let missing = format!("{}: Field required", self.name);
            return Vec::from_iter(self.default.is_none().then_some(missing));
        };
        let name = self.name;
        match (&self.takes, given) {
            (Takes::Text, Json::String(_)) => Vec::new(),
            (Takes::Text, _) => vec![format!("{name}: Input should be a valid string")],
            (Takes::Texts, Json::Array(items)) => items
                .iter()
                .enumerate()
                .filter(|(_, item)| !item.is_string())
                .map(|(place, _)| format!("{name}.{place}: Input should be a valid string"))
                .collect(),
            (Takes::Texts, _) => vec![format!("{name}: Input should be a valid list")],
            (Takes::OneOf(choices), given) => {
                let known = given.as_str().is_some_and(|given| choices.contains(&given));
                let quoted: Vec<String> = choices.iter().map(|choice| format!("'{choice}'")).collect();
                let listed = match quoted.split_last() {
                    Some((last, [])) => last.clone(),
                    Some((last, others)) => format!("{} or {last}", others.join(", ")),
                    None => String::new(),
                };
                Vec::from_iter((!known).then(|| format!("{name}: Input should be {listed}")))
            }
        }
    }
}
