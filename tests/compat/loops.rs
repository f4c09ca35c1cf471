//! Random flows with a loop: what goes in, what its body does, and what comes out.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value as Json, json};

use crate::case::Case;
use crate::wheels;

/// A flow that is being drawn.
#[derive(Default)]
struct Drawing {
    nodes: Vec<Json>,
    edges: Vec<Json>,
}

impl Drawing {
    /// A node of a component, with values of its fields. Returns its id.
    fn node(&mut self, component: &str, values: &[(&str, Json)]) -> String {
        let id = format!("{component}-{}", self.nodes.len());
        let mut node = wheels::component(component).clone();
        for (field, value) in values {
            node["template"][field]["value"] = value.clone();
        }
        self.nodes.push(json!({
            "id": id, "type": "genericNode", "data": {"id": id, "type": component, "node": node}
        }));
        id
    }

    fn data(&self, id: &str) -> &Json {
        let node = self.nodes.iter().find(|node| node["id"] == id).unwrap();
        &node["data"]
    }

    fn edge(&mut self, from: (&str, &str), to: (&str, &str)) {
        let field = &self.data(to.0)["node"]["template"][to.1];
        let target = json!({
            "fieldName": to.1, "id": to.0, "inputTypes": field["input_types"], "type": field["type"]
        });
        self.connect(from, to.0, &target);
    }

    fn back(&mut self, from: (&str, &str), to: &str) {
        let component = &self.data(to)["type"];
        let target = json!({
            "dataType": component, "id": to, "name": "item", "output_types": ["Data", "Message"]
        });
        self.connect(from, to, &target);
    }

    /// Whether a node is reached by an item: what is not runs once more outside of the turns in lfx.
    fn takes_items(&self, id: &str) -> bool {
        let mut before = self.edges.iter().filter(|edge| edge["target"] == id);
        before.any(|edge| {
            let source = edge["source"].as_str().unwrap();
            edge["data"]["sourceHandle"]["name"] == "item" || self.takes_items(source)
        })
    }

    fn connect(&mut self, (from, output): (&str, &str), to: &str, target: &Json) {
        let source = self.data(from);
        let outputs = source["node"]["outputs"].as_array().unwrap();
        let types = &outputs.iter().find(|known| known["name"] == output).unwrap()["types"];
        let handle = json!({"dataType": source["type"], "id": from, "name": output, "output_types": types});
        let text = |handle: &Json| handle.to_string().replace('"', "œ");
        self.edges.push(json!({
            "id": format!("edge-{}", self.edges.len()),
            "source": from, "target": to, "sourceHandle": text(&handle), "targetHandle": text(target),
            "data": {"sourceHandle": handle, "targetHandle": target},
        }));
    }
}

/// What a text node gives, to whom it may be connected.
type Place = (String, &'static str);

struct Drawer<'r> {
    drawing: Drawing,
    random: &'r mut StdRng,
}

impl Drawer<'_> {
    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.random.random_range(0..of.len())]
    }

    /// Something to go through.
    fn source(&mut self, chat: &str) -> Place {
        match self.random.random_range(0..4) {
            0 => (chat.to_owned(), "message"),
            1 => {
                let kind = self.pick(&["data_output", "dataframe_output"]);
                let convert = self
                    .drawing
                    .node("TypeConverterComponent", &[("auto_parse", json!(true))]);
                self.drawing.edge((chat, "message"), (&convert, "input_data"));
                (
                    convert,
                    if kind == "data_output" {
                        "data_output"
                    } else {
                        "dataframe_output"
                    },
                )
            }
            _ => {
                let separator = self.pick(&[",", "\n", " "]).to_owned();
                self.split(&(chat.to_owned(), "message"), &separator)
            }
        }
    }

    fn split(&mut self, from: &Place, separator: &str) -> Place {
        let fields = [
            ("separator", json!(separator)),
            ("chunk_size", json!(1)),
            ("chunk_overlap", json!(0)),
        ];
        let split = self.drawing.node("SplitText", &fields);
        self.drawing.edge((&from.0, from.1), (&split, "data_inputs"));
        (split, "dataframe")
    }

    /// A loop over what a place gives; returns its result.
    fn over(&mut self, items: &Place, depth: usize) -> Place {
        let inner = self.drawing.node("LoopComponent", &[]);
        self.drawing.edge((&items.0, items.1), (&inner, "data"));
        let end = self.body(&inner, depth);
        // Now and then nothing goes back, and there are no turns.
        if self.random.random_bool(0.9) {
            self.drawing.back((&end.0, end.1), &inner);
        }
        (inner, "done")
    }

    fn body(&mut self, of: &str, depth: usize) -> Place {
        let item = (of.to_owned(), "item");
        let mut texts = vec![self.first(&item)];
        // The item may go several ways.
        if self.random.random_bool(0.2) {
            texts.push(self.first(&item));
        }
        if self.random.random_bool(0.3) {
            let words = self.pick(&["of old", "", "x{y}"]).to_owned();
            let said = self.drawing.node("TextInput", &[("input_value", json!(words))]);
            texts.push((said, "text"));
        }
        for _ in 0..self.random.random_range(0..4) {
            let next = self.next(&mut texts, depth);
            texts.push(next);
        }
        // Everything comes together, so that the end depends on all of it, or on some.
        let mut last = texts.remove(0);
        for text in texts {
            if self.random.random_bool(0.7) {
                let fields = [("delimiter", json!("|"))];
                let both = self.drawing.node("CombineText", &fields);
                self.drawing.edge((&last.0, last.1), (&both, "text1"));
                self.drawing.edge((&text.0, text.1), (&both, "text2"));
                last = (both, "combined_text");
            }
        }
        if self.random.random_bool(0.2) {
            let convert = self
                .drawing
                .node("TypeConverterComponent", &[("auto_parse", json!(true))]);
            self.drawing.edge((&last.0, last.1), (&convert, "input_data"));
            last = (convert, "data_output");
        }
        last
    }

    fn first(&mut self, item: &Place) -> Place {
        let of = |edge: &&Json| edge["target"] == item.0.as_str();
        let items = self.drawing.edges.iter().find(of).unwrap();
        // Rows of texts carry less of a message's metadata here: a known difference, which Stringify would show.
        let modes: &[&str] = match items["source"].as_str().unwrap().starts_with("SplitText") {
            true => &["Parser"],
            false => &["Parser", "Stringify"],
        };
        let convert = self.random.random_bool(0.3);
        let (node, field, output) = if convert {
            (
                self.drawing.node("TypeConverterComponent", &[]),
                "input_data",
                "message_output",
            )
        } else {
            let pattern = self.pick(&["<{text}>", "{text}", "{text} {a}", "no"]).to_owned();
            let mode = self.pick(modes).to_owned();
            let fields = [("pattern", json!(pattern)), ("mode", json!(mode))];
            (
                self.drawing.node("ParserComponent", &fields),
                "input_data",
                "parsed_text",
            )
        };
        self.drawing.edge((&item.0, item.1), (&node, field));
        (node, output)
    }

    fn next(&mut self, texts: &mut [Place], depth: usize) -> Place {
        let from = texts[self.random.random_range(0..texts.len())].clone();
        match self.random.random_range(0..7) {
            0 if self.drawing.takes_items(&from.0) => {
                let fields = [("model", json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}]))];
                let model = self.drawing.node("LanguageModelComponent", &fields);
                self.drawing.edge((&from.0, from.1), (&model, "input_value"));
                (model, "text_output")
            }
            1 => {
                let fields = [("match_text", json!("b")), ("operator", json!("contains"))];
                let router = self.drawing.node("ConditionalRouter", &fields);
                self.drawing.edge((&from.0, from.1), (&router, "input_text"));
                let output = if self.random.random_bool(0.5) {
                    "true_result"
                } else {
                    "false_result"
                };
                let convert = self.drawing.node("TypeConverterComponent", &[]);
                self.drawing.edge((&router, output), (&convert, "input_data"));
                (convert, "message_output")
            }
            2 if depth > 0 => {
                let items = self.split(&from, ";");
                let done = self.over(&items, depth - 1);
                let fields = [("mode", json!("Stringify"))];
                let text = self.drawing.node("ParserComponent", &fields);
                self.drawing.edge((&done.0, done.1), (&text, "input_data"));
                (text, "parsed_text")
            }
            3 => {
                // A message of its own: in lfx a chat output changes the one that other nodes have as well.
                let own = self.drawing.node("CombineText", &[]);
                self.drawing.edge((&from.0, from.1), (&own, "text1"));
                self.drawing.edge((&from.0, from.1), (&own, "text2"));
                let said = self.drawing.node("ChatOutput", &[]);
                self.drawing.edge((&own, "combined_text"), (&said, "input_value"));
                (said, "message")
            }
            _ => {
                let both = self.drawing.node("CombineText", &[("delimiter", json!("+"))]);
                let other = texts[self.random.random_range(0..texts.len())].clone();
                self.drawing.edge((&from.0, from.1), (&both, "text1"));
                self.drawing.edge((&other.0, other.1), (&both, "text2"));
                (both, "combined_text")
            }
        }
    }
}

const INPUTS: [&str; 10] = [
    "a,b,c",
    "a;b,c d;e",
    "one",
    "",
    "x\ny b\nz",
    r#"{"text": "t", "a": 1}"#,
    r#"[{"text": "b", "a": 1}, {"text": "c", "a": 2.5}]"#,
    "text,a\nb;1,2\nc,3",
    "<b>,{a}",
    "é ,,b",
];

/// As many flows, always the same ones for a seed.
pub(crate) fn random(seed: u64, count: usize) -> Vec<Case> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count)
        .map(|number| {
            let mut drawer = Drawer {
                drawing: Drawing::default(),
                random: &mut random,
            };
            let chat = drawer.drawing.node("ChatInput", &[]);
            let items = drawer.source(&chat);
            let done = drawer.over(&items, 1);
            let output = drawer.drawing.node("ChatOutput", &[]);
            drawer.drawing.edge((&done.0, done.1), (&output, "input_value"));
            let Drawing { nodes, edges } = drawer.drawing;
            let flow = json!({
                "id": "7eb7c081-888c-4f25-ba81-c84e6aab2778", "name": "loop",
                "data": {"nodes": nodes, "edges": edges},
            });
            let input = INPUTS[random.random_range(0..INPUTS.len())];
            Case {
                // Nodes run once a turn.
                nodes: false,
                ..Case::new(format!("loop {number}"), flow).input(input)
            }
        })
        .collect()
}
