//! Flows as Langflow's API has them, and the exports that are stored for them. No I/O.

use flowfleet_core::port::FlowRecord;
use flowfleet_core::{FlowId, FlowName};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::problem::{Code, Problem};

/// Names tried for a flow whose own is taken.
pub(super) const NAMES: u32 = 100;

/// A flow as Langflow's clients read it. What this server does not have, folders and owners, is null.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LangflowFlow {
    pub id: Uuid,
    pub name: String,
    pub description: Option<String>,
    pub icon: Option<String>,
    pub icon_bg_color: Option<String>,
    pub gradient: Option<String>,
    /// Nodes and edges; null in lists of headers.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Value>,
    pub is_component: bool,
    pub updated_at: Timestamp,
    pub webhook: bool,
    /// The name of the flow here, for `/api/v1/run` and `/v1/flows`.
    pub endpoint_name: String,
    pub tags: Vec<String>,
    pub locked: bool,
    pub mcp_enabled: bool,
    pub action_name: Option<String>,
    pub action_description: Option<String>,
    pub access_type: &'static str,
    pub user_id: Option<Uuid>,
    pub folder_id: Option<Uuid>,
}

/// What a stored flow is to Langflow's clients. A document that is nodes and edges only is the flow's data.
pub(super) fn shown(record: &FlowRecord, mut document: Map<String, Value>, header: bool) -> LangflowFlow {
    let text = |document: &Map<String, Value>, key: &str| {
        document
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let webhook = has_webhook(document.get("data").unwrap_or(&Value::Null));
    let tags = document.get("tags").and_then(Value::as_array);
    let tags = tags.into_iter().flatten().filter_map(Value::as_str);
    LangflowFlow {
        id: record.id.0,
        name: text(&document, "name").unwrap_or_else(|| record.flow.name.to_string()),
        description: text(&document, "description"),
        icon: text(&document, "icon"),
        icon_bg_color: text(&document, "icon_bg_color"),
        gradient: text(&document, "gradient"),
        tags: tags.map(str::to_owned).collect(),
        locked: document.get("locked").and_then(Value::as_bool).unwrap_or(false),
        action_name: text(&document, "action_name"),
        action_description: text(&document, "action_description"),
        data: match document.remove("data") {
            _ if header => None,
            Some(data) => Some(data),
            None => Some(Value::Object(document)),
        },
        is_component: false,
        updated_at: record.created_at,
        webhook,
        endpoint_name: record.flow.name.to_string(),
        mcp_enabled: false,
        access_type: "PRIVATE",
        user_id: None,
        folder_id: None,
    }
}

/// Whether something in the flow gets what is sent to its webhook.
fn has_webhook(data: &Value) -> bool {
    let nodes = data.get("nodes").and_then(Value::as_array);
    let id = |node: &Value| node["id"].as_str().is_some_and(|id| id.contains("Webhook"));
    nodes.into_iter().flatten().any(id)
}

/// What is said of a flow by who creates or changes it: an export, or a part of one.
#[derive(Debug)]
pub(super) struct Said(pub(super) Map<String, Value>);

impl Said {
    /// Refuses what would not be what it says. Folders and owners are ignored: there are none, and answers say so.
    pub(super) fn check(self) -> Result<Self, Problem> {
        if self.0.get("is_component") == Some(&Value::Bool(true)) {
            return Err(not_available(
                "/is_component",
                "components cannot be stored here, only flows",
            ));
        }
        for flag in ["mcp_enabled", "a2a_enabled"] {
            if self.0.get(flag) == Some(&Value::Bool(true)) {
                return Err(not_available(
                    &format!("/{flag}"),
                    "flows are not offered as tools here: leave it out",
                ));
            }
        }
        for text in ["name", "description", "endpoint_name", "id"] {
            if self
                .0
                .get(text)
                .is_some_and(|value| !value.is_string() && !value.is_null())
            {
                return Err(Problem::invalid(format!("/{text}"), "must be text"));
            }
        }
        Ok(self)
    }

    fn text(&self, key: &str) -> Option<&str> {
        let text = self.0.get(key).and_then(Value::as_str).map(str::trim);
        text.filter(|text| !text.is_empty())
    }

    /// The id it brings, if it brings one.
    pub(super) fn id(&self) -> Result<Option<FlowId>, Problem> {
        let parsed = self.text("id").map(str::parse).transpose();
        parsed.map_err(|_| Problem::invalid("/id", "must be a UUID"))
    }

    /// The name it is to have here: its endpoint's, or what can be made of its own.
    pub(super) fn flow_name(&self) -> Result<FlowName, Problem> {
        if let Some(endpoint) = self.text("endpoint_name") {
            return endpoint.parse().map_err(|error: flowfleet_core::name::BadName| {
                Problem::invalid("/endpoint_name", error.to_string())
            });
        }
        let name = self
            .text("name")
            .ok_or_else(|| Problem::invalid("/name", "is missing"))?;
        plain(name).ok_or_else(|| {
            let detail = "no name for calls can be made of it: give an endpoint_name of a-z, A-Z, 0-9, '-', '_' and '.'";
            Problem::invalid("/name", detail)
        })
    }

    /// The export to store under `id` and `name`.
    pub(super) fn document(mut self, id: FlowId, name: &FlowName) -> Vec<u8> {
        for foreign in [
            "user_id",
            "folder_id",
            "workspace_id",
            "updated_at",
            "version_token",
            "fs_path",
        ] {
            self.0.remove(foreign);
        }
        self.0.insert("id".to_owned(), id.to_string().into());
        self.0.insert("endpoint_name".to_owned(), name.as_str().into());
        Value::Object(self.0).to_string().into_bytes()
    }

    /// Puts what is said over what was: null says nothing.
    pub(super) fn over(self, mut stored: Map<String, Value>) -> Self {
        if !stored.contains_key("data") {
            let data = Value::Object(std::mem::take(&mut stored));
            stored.insert("data".to_owned(), data);
        }
        stored.extend(self.0.into_iter().filter(|(_, value)| !value.is_null()));
        Self(stored)
    }
}

fn not_available(pointer: &str, detail: &str) -> Problem {
    let error = crate::api::problem::ErrorItem::new(pointer, detail);
    Problem::of(Code::NotAvailable, vec![error])
}

/// A flow's name made of a title: lower case, words joined by `-`.
fn plain(title: &str) -> Option<FlowName> {
    let mut name = String::new();
    for c in title.chars().flat_map(char::to_lowercase) {
        if name.len() >= FlowName::MAX {
            break;
        }
        match c {
            'a'..='z' | '0'..='9' => name.push(c),
            '_' | '.' if !name.is_empty() => name.push(c),
            _ if !name.is_empty() && !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    name.trim_end_matches(['-', '_', '.']).parse().ok()
}

/// The `n`th name to try for a flow: its own, then with a number behind.
pub(super) fn numbered(name: &FlowName, n: u32) -> Option<FlowName> {
    if n == 0 {
        return Some(name.clone());
    }
    let end = format!("-{n}");
    let room = FlowName::MAX - end.len();
    let start: String = name.as_str().chars().take(room).collect();
    format!("{start}{end}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn said(value: Value) -> Said {
        match value {
            Value::Object(map) => Said(map),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn titles_become_names() {
        for (title, name) in [
            ("Basic Prompting", Some("basic-prompting")),
            ("  Größe (2) ", Some("gr-e-2")),
            ("v1.2_x!", Some("v1.2_x")),
            ("--", None),
            ("日本", None),
        ] {
            assert_eq!(plain(title).as_ref().map(FlowName::as_str), name, "{title}");
        }
        let name = "n".repeat(FlowName::MAX).parse().unwrap();
        assert!(numbered(&name, 12).unwrap().as_str().ends_with("n-12"));
    }

    #[test]
    fn a_change_keeps_what_it_does_not_say() {
        let stored = json!({"id": "i", "name": "a", "data": {"nodes": []}, "tags": ["x"]});
        let changed = said(json!({"name": "b", "data": null})).over(said(stored).0);
        assert_eq!(changed.0["name"], "b");
        assert_eq!(changed.0["data"], json!({"nodes": []}));
        let bare = said(json!({"name": "b"})).over(said(json!({"nodes": [1]})).0);
        assert_eq!(bare.0["data"], json!({"nodes": [1]}));
    }

    #[test]
    fn what_would_not_be_so_is_refused() {
        for bad in [
            json!({"is_component": true}),
            json!({"mcp_enabled": true}),
            json!({"name": 3}),
        ] {
            assert!(said(bad).check().is_err());
        }
        assert!(said(json!({"id": "x"})).id().is_err());
        assert!(said(json!({"endpoint_name": "a b"})).flow_name().is_err());
        assert!(said(json!({"description": "x"})).flow_name().is_err());
        said(json!({"folder_id": "f", "locked": true})).check().unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_title_gives_a_name_or_none(title in "\\PC{0,200}", n in 0u32..NAMES) {
            if let Some(name) = plain(&title) {
                prop_assert!(name.as_str().len() <= FlowName::MAX);
                prop_assert_eq!(plain(name.as_str()), Some(name.clone()));
                prop_assert!(numbered(&name, n).is_some());
            }
        }
    }
}
