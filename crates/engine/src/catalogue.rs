//! What runs natively and how it differs from Langflow: the page `docs/components.md`.
//!
//! The page is made from this and from the list of known code, so that it names every component there is.

use std::collections::BTreeMap;

use crate::component::Kind;
use crate::components::tools_of;
use crate::known;

/// Where models are that components select.
const PROVIDERS: &str = "OpenAI and servers that speak its API, OpenRouter, Anthropic, Ollama";

/// What a user is told of a component.
struct Entry {
    /// As Langflow's editor calls it.
    title: &'static str,
    native: &'static str,
    differs: &'static [&'static str],
}

const fn same(title: &'static str, native: &'static str) -> Entry {
    Entry {
        title,
        native,
        differs: &[],
    }
}

fn entry(kind: Kind) -> Entry {
    match kind {
        Kind::ChatInput => same(
            "Chat Input",
            "all of it; messages are kept where the run is part of a conversation",
        ),
        Kind::ChatOutput => Entry {
            title: "Chat Output",
            native: "messages, data, tables (as Markdown), lists of them",
            differs: &[
                "Langflow's changes the message that it is given, so that others who are given it too and happen to run later find it \
                 said by the machine; here everybody gets what was made.",
            ],
        },
        Kind::EarlyChatOutput => same(
            "Chat Output",
            "the same; a table that is the only input is not cleaned",
        ),
        Kind::TextInput => same("Text Input", "all of it"),
        Kind::TextOutput => same("Text Output", "all of it"),
        Kind::Prompt => same(
            "Prompt Template",
            "f-string style and mustache with plain variables",
        ),
        Kind::LanguageModel => Entry {
            title: "Language Model",
            native: PROVIDERS,
            differs: &[
                "Always streams, so that a run's tokens can be followed; Langflow does when its caller does.",
                "Models of other providers (Groq, Azure, Google, IBM WatsonX) need Python.",
                "How often a request is repeated after 429, 5xx and broken connections is the operator's setting for all \
                 providers; Langflow leaves it to their clients, of which Ollama's never does.",
                "Where Anthropic's stream ends without a count of input tokens, that of its beginning counts; Langflow says 0.",
                "Arguments that an Ollama model writes as Python instead of JSON inside of text stay text.",
            ],
        },
        Kind::OpenAiModel => Entry {
            title: "OpenAI",
            native: "chat models, JSON mode, temperature, seed, limits",
            differs: &[
                "Always streams.",
                "Other words for errors of the model server, with a stable code.",
            ],
        },
        Kind::Parser => Entry {
            title: "Parser",
            native: "templates and Stringify over messages, data, lists and tables",
            differs: &[
                "Before lfx 1.11 Langflow fails on a list of data, and on a table in Stringify; here both give text.",
            ],
        },
        Kind::ConditionalRouter => Entry {
            title: "If-Else",
            native: "all operators",
            differs: &["Regular expressions with look-around are refused."],
        },
        Kind::Agent => Entry {
            title: "Agent",
            native: "OpenAI and servers that speak its API, OpenRouter, Anthropic, Ollama; tools side by side, current date \
                     and calculator, limits, streaming, chat memory, structured responses",
            differs: &[
                "A structured response that does not fit its schema says so in other words.",
                "Other providers, files in messages and tools that ask for approval need Python.",
                "Tools are told to the model in the order of the flow's edges; Langflow's order is chance.",
            ],
        },
        Kind::TimedAgent => same("Agent", "the same; `{current_date}` is a time, to the second"),
        Kind::Calculator => same(
            "Calculator",
            "Python's expressions of numbers, with the same errors",
        ),
        Kind::CurrentDate => same("Current Date", "all time zones"),
        Kind::File => Entry {
            title: "Read File",
            native: "text, Markdown, CSV, JSON, HTML and code, as message, path, table or JSON",
            differs: &[
                "YAML, XML, PDF, Word and other documents, and files in S3 or Google Drive, need Python.",
                "An encoding other than UTF-8, UTF-16 or ASCII has to be named; Langflow guesses.",
                "`file_path` is the path as the flow names it, and files stay after they have been read.",
            ],
        },
        Kind::SaveToFile => Entry {
            title: "Write File",
            native: "to the fleet's own storage: text, Markdown, JSON, CSV",
            differs: &["S3, Google Drive, Excel, and tables as Markdown need Python."],
        },
        Kind::SplitText => Entry {
            title: "Split Text",
            native: "all of it",
            differs: &["Rows made from a message carry fewer columns of its metadata."],
        },
        Kind::EarlySplitText => same(
            "Split Text",
            "the same; a separator kept at the end stands at the start",
        ),
        Kind::CombineText => same("Combine Text", "all of it"),
        Kind::TypeConverter => Entry {
            title: "Type Convert",
            native: "between message, data and table",
            differs: &["Data whose text is no string gives its text; Langflow fails."],
        },
        Kind::StructuredOutput => Entry {
            title: "Structured Output",
            native: PROVIDERS,
            differs: &[
                "An answer that does not fit the schema is corrected up to twice, in other words than Langflow's.",
                "One question to the model serves both outputs; Langflow asks twice.",
            ],
        },
        Kind::BatchRun => Entry {
            title: "Batch Run",
            native: PROVIDERS,
            differs: &["16 rows at once, and 10,000 rows at most."],
        },
        Kind::Webhook => same("Webhook", "the body as data, as the start of a flow"),
        Kind::Url => Entry {
            title: "URL",
            native: "text and HTML of pages, links to any depth, redirects, headers; lxml's reading of bad HTML",
            differs: &[
                "Pages as Markdown are refused.",
                "Private, loopback, reserved and metadata addresses are refused unless `FLOWFLEET_FETCH_HOSTS` names the \
                 host; the refusal is worded otherwise.",
                "At most 1,000 pages of 10 MiB and 100 MiB in all, also for releases without these limits; bodies are \
                 asked for uncompressed.",
                "Other words for failed connections.",
            ],
        },
        Kind::WebSearch => Entry {
            title: "Web Search",
            native: "DuckDuckGo's pages, Google News, RSS",
            differs: &[
                "Pages of results and articles are fetched with the guard of URL.",
                "A feed without any item is told to a model without its columns.",
                "Other words for failed connections.",
            ],
        },
        Kind::MessageHistory => Entry {
            title: "Message History",
            native: "reading and storing messages of the flow's conversations",
            differs: &[
                "External memories need Python.",
                "Other flows' messages are out of reach.",
            ],
        },
        Kind::Loop => Entry {
            title: "Loop",
            native: "a body of native components, loops in loops, routers in bodies; each turn's nodes are checkpointed and \
                     told as events, as `NODE#LOOP.TURN`",
            differs: &[
                "Bodies that need the chat input, share a node with what follows the loop or with another loop's item, or end \
                 in a router or a table, need Python; so do loops that another loop leads to directly, and loops in loops \
                 whose bodies depend on more than the item.",
                "What serves only bodies runs in every turn, as in Langflow, but not once more outside of them.",
                "A cell that is missing in a table is the text `nan` in its item.",
                "At most 10,000 items, and 100,000 nodes in the loops of a run.",
                "A node that fails names its turn.",
            ],
        },
        Kind::ArXiv => Entry {
            title: "arXiv",
            native: "searches in all fields or one",
            differs: &[
                "Asked through the guard of URL; an operator's `FLOWFLEET_ARXIV_URL` is asked instead.",
                "Other words for failed connections and for answers that are no feed.",
            ],
        },
        Kind::ApiRequest => Entry {
            title: "API Request",
            native: "all methods, query parameters, headers and bodies, redirects, JSON and text answers, failures as data",
            differs: &[
                "Saving to a file, and use as a tool, need Python.",
                "Asked through the guard of URL: only `FLOWFLEET_FETCH_HOSTS` opens private addresses, and refusals are \
                 worded otherwise; so are failures of TLS and of names.",
                "Bodies are asked for uncompressed; without a header of the flow the user agent is Flowfleet's; a `'` in an \
                 address is sent as `%27`.",
                "Refused with an error: answers beyond 10 MiB, in UTF-16, or with bytes that are no text where they are \
                 declared binary; JSON with NaN or with whole numbers beyond 64 bits; hosts in other scripts than ASCII; \
                 headers that HTTP has not, and Content-Length, Transfer-Encoding, Connection and Expect.",
                "Before lfx 1.12 an answer that is neither JSON nor UTF-8 fails the run; here it gives text.",
            ],
        },
        Kind::DataOperations => Entry {
            title: "JSON Operations (Data Operations)",
            native: "Select Keys, Remove Keys, Rename Keys, Append or Update, Combine",
            differs: &[
                "Literal Eval, Path Selection, JQ Expression, operations that newer releases have not, and several inputs for an \
                 operation of one need Python.",
                "Inputs are combined in the order of the flow's edges; Langflow's order is chance.",
            ],
        },
        Kind::EarlyDataOperations => same(
            "JSON Operations (Data Operations)",
            "the same; Append or Update and Combine take a key `data` for the data itself, and refuse `text_key` and `default_value`",
        ),
        Kind::EarlyApiRequest => same("API Request", "the same; following redirects needs Python"),
        Kind::MemoryBase => Entry {
            title: "Memory Base",
            native: "as far as none is selected",
            differs: &["A memory base lies in Langflow's own database: a flow that selects one is refused."],
        },
        Kind::Knowledge => Entry {
            title: "Knowledge",
            native: "bringing tables, data and messages into a knowledge base and finding the nearest texts, with \
                     OpenAI's text-embedding models; see [knowledge](knowledge.md)",
            differs: &[
                "The bases are the fleet's own: they are made over the API, and lie in its store.",
                "Of texts that are equally near the older one comes first; Langflow's order is chance.",
                "Scores are those that Langflow shows on x86-64, whose last digits differ elsewhere.",
                "A cell that says `nan` is an empty one.",
                "At most 100,000 rows are brought at once, 1 MiB each, and at most 1,000 texts found.",
            ],
        },
        Kind::KnowledgeIngestion => same("Knowledge Ingestion", "as Knowledge, in its mode Ingest"),
        Kind::KnowledgeBase => same("Knowledge Base", "as Knowledge, in its mode Retrieve"),
    }
}

/// The page.
pub fn page() -> String {
    let mut page = "# Components that run natively\n\n\
        Made from the code (`FLOWFLEET_UPDATE_DOCS=1 cargo test -p flowfleet-engine catalogue`); do not edit.\n\n\
        A node runs natively if the sha256 of its code is that of a listed release, byte for byte. A flow with any other \
        node, such as an edited one, runs whole in the [Python host](python.md), or is refused by name where there is \
        none. What was compared with lfx, and how, is in `tests/compat` (starter flows, request by request), \
        `crates/engine/tests` and `crates/engine/src/known/generate.py` (which releases were left out, and why).\n\n\
        Of every component: errors carry a stable `code`, and where Langflow would run without an end or a limit there \
        is one, with an error that says so.\n\n\
        | component | natively | releases | as a tool |\n|---|---|---|---|\n"
        .to_owned();
    let mut differences = String::new();
    for (kind, releases) in releases() {
        let Entry {
            title,
            native,
            differs,
        } = entry(kind);
        let tools: Vec<String> = tools_of(kind).map(|tool| format!("`{tool}`")).collect();
        let tools = if tools.is_empty() {
            "-".to_owned()
        } else {
            tools.join(", ")
        };
        let releases = releases.join("; ");
        page.push_str(&format!("| {title} | {native} | {releases} | {tools} |\n"));
        if !differs.is_empty() {
            differences.push_str(&format!("- **{title}**\n"));
            for difference in differs {
                differences.push_str(&format!("  - {difference}\n"));
            }
        }
    }
    page.push_str("\n## How they differ\n\n");
    page.push_str(&differences);
    page
}

fn releases() -> BTreeMap<Kind, Vec<&'static str>> {
    let mut releases: BTreeMap<Kind, Vec<&'static str>> = BTreeMap::new();
    for (kind, where_found) in known::releases() {
        releases.entry(kind).or_default().push(where_found);
    }
    releases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/components.md");
        if std::env::var_os("FLOWFLEET_UPDATE_DOCS").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == page(),
            "{path} is not what the code says: FLOWFLEET_UPDATE_DOCS=1 cargo test -p flowfleet-engine catalogue"
        );
    }
}
