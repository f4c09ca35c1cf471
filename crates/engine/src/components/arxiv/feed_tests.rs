//! Random feeds through this reader and through the component of a release.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::json;

use super::*;
use crate::reference::ask;

/// Runs the component's own code over documents.
const PROGRAM: &str = r#"
import json, sys
from xml.etree.ElementTree import ParseError
from lfx.schema.data import Data
import importlib.util, types
question = json.load(sys.stdin)
module = types.ModuleType("arxiv_component")
exec(compile(question["code"], "arxiv", "exec"), module.__dict__)
component = module.ArXivComponent(_code=question["code"])
answers = []
for document in question["documents"]:
    try:
        answers.append(component.parse_atom_response(document))
    except (ParseError, AttributeError):
        answers.append("failed")
    except ValueError as error:
        answers.append(str(error))
json.dump(answers, sys.stdout)
"#;

fn code() -> String {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || std::path::PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"),
        std::path::PathBuf::from,
    );
    let wheels = std::env::var_os("FLOWFLEET_TEST_WHEELS")
        .map_or_else(|| cache.join("flowfleet/wheels"), std::path::PathBuf::from);
    let path = wheels
        .join("langflow_base-1.13.0/langflow/initial_setup/starter_projects/Research Translation Loop.json");
    let flow: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let nodes = flow["data"]["nodes"].as_array().unwrap();
    let arxiv = nodes
        .iter()
        .find(|node| node["data"]["type"] == "ArXivComponent")
        .unwrap();
    arxiv["data"]["node"]["template"]["code"]["value"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn ours(document: &str) -> Json {
    match papers(document) {
        Ok(rows) => json!(rows),
        Err(Error::Entities(name)) => {
            format!("EntitiesForbidden(name='{name}', system_id=None, public_id=None)").into()
        }
        Err(_) => "failed".into(),
    }
}

const HEAD: &str = r#"<feed xmlns="http://www.w3.org/2005/Atom" xmlns:arxiv="http://arxiv.org/schemas/atom" xmlns:o="urn:o">"#;

/// Parts that entries are made of; some are of no use, some break the document.
const PARTS: [&str; 30] = [
    "<id>http://arxiv.org/abs/1</id>",
    "<title>A &amp; B\r\n  two &#233; &lt;x&gt;</title>",
    "<title>  </title>",
    "<title/>",
    "<title>one<b>two</b>three</title>",
    "<title>one<!-- note -->two</title>",
    "<summary><![CDATA[<p>raw & co</p>]]> and</summary>",
    "<summary>\n text \n</summary>",
    "<published>2026-01-01</published>",
    "<updated>2026</updated>",
    "<author><name>Ann</name></author>",
    "<author><name>Bob &quot;B&quot;</name><name>second</name><arxiv:affiliation>X</arxiv:affiliation></author>",
    "<author><name/></author>",
    "<author>nameless</author>",
    r#"<link href="http://a/1?x=1&amp;y=2" rel="alternate" type="text/html"/>"#,
    r#"<link title="pdf" href="http://a/2" rel="related"/>"#,
    r#"<link rel="related"></link>"#,
    r#"<link href="none"/>"#,
    "<arxiv:comment>3 pages</arxiv:comment>",
    "<arxiv:journal_ref>J. 1</arxiv:journal_ref>",
    r#"<arxiv:primary_category term="cs.AI"/>"#,
    r#"<category term="cs.AI" scheme="s"/>"#,
    r#"<category scheme="s"/>"#,
    "<category term='a\tb\nc'/>",
    "<o:title>other</o:title>",
    r#"<title xmlns="urn:o">elsewhere</title>"#,
    r#"<x:title xmlns:x="http://www.w3.org/2005/Atom">by prefix</x:title>"#,
    "<deep><a><b><c><title>no</title></c></b></a></deep>",
    "<title>&unknown;</title>",
    "<title>open",
];

fn document() -> impl Strategy<Value = String> {
    let entry = proptest::collection::vec(0..PARTS.len(), 0..9);
    (proptest::collection::vec(entry, 0..4), 0..8usize).prop_map(|(entries, frame)| {
        let entries: String = entries
            .iter()
            .map(|parts| {
                let parts: Vec<&str> = parts.iter().map(|part| PARTS[*part]).collect();
                format!("<entry>{}</entry>\n", parts.join("\n"))
            })
            .collect();
        match frame {
            0 => format!("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>{HEAD}{entries}</feed>"),
            1 => format!("<!DOCTYPE feed [<!ENTITY e \"x\">]>{HEAD}{entries}</feed>"),
            2 => format!("<!DOCTYPE feed>{HEAD}{entries}</feed>"),
            3 => format!("{HEAD}<group>{entries}</group></feed>"),
            4 => format!("<feed>{entries}</feed>"),
            5 => format!("<?xml version=\"1.0\"?>\n<!-- x -->{HEAD}<title>Search</title>{entries}</feed>\n"),
            _ => format!("{HEAD}{entries}</feed>"),
        }
    })
}

#[test]
fn feeds_are_read_as_lfx_reads_them() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut documents: Vec<String> = (0..400)
        .map(|_| document().new_tree(&mut runner).unwrap().current())
        .collect();
    documents.extend(["", "no xml", "<a/>", "<a/><b/>", "<a></b>", "x<a/>", "<a/>x"].map(str::to_owned));
    let question = json!({"code": code(), "documents": documents});
    let theirs: Vec<Json> = ask(PROGRAM, &question);
    for (document, theirs) in documents.iter().zip(theirs) {
        assert_eq!(ours(document), theirs, "{document}");
    }
}
