//! Loop: what it goes through, and what it makes of the results. The turns themselves are the driver's.

use serde_json::{Map, Value as Json};

use super::table::Frame;
use crate::component::{NodeCall, NodeError, NodeOutput, Param};
use crate::value::{Message, Value};

pub(crate) const ITEM: &str = "item";
pub(crate) const DONE: &str = "done";

/// Items of one loop.
const MOST_ITEMS: usize = 10_000;

const TEXT: &str = "text";

type Row = Map<String, Json>;

/// The items of a loop.
pub(crate) fn items(call: &NodeCall) -> Result<Vec<Row>, NodeError> {
    let items = match call.params.get("data") {
        Some(Param::Edge(Value::Message(message))) => vec![of_text(&message.text)],
        Some(Param::Edge(Value::Data(data))) => vec![data.clone()],
        Some(Param::Edge(Value::Table(rows))) => {
            let frame = Frame::of(rows)?;
            let row = |cells: Vec<(&str, &Json)>| {
                let cells = cells.into_iter();
                cells
                    .map(|(name, cell)| (name.to_owned(), cell.clone()))
                    .collect()
            };
            frame.typed_rows().map(row).collect()
        }
        _ => {
            let message = format!(
                "{}: the field data must be connected to a table, data or a message",
                call.node.display_name
            );
            return Err(NodeError::permanent("field_invalid", message));
        }
    };
    match items.len() > MOST_ITEMS {
        true => Err(NodeError::permanent(
            "loop_too_long",
            format!(
                "{}: {} items; a loop takes {MOST_ITEMS} at most: split them over several runs",
                call.node.display_name,
                items.len()
            ),
        )),
        false => Ok(items),
    }
}

/// What the nodes of a turn see as the loop's output.
pub(crate) fn turn(item: Row) -> NodeOutput {
    let mut output = NodeOutput::default();
    output.values.insert(ITEM.to_owned(), Value::Data(item));
    output
}

/// The result of a turn: what its last node gave, or an empty text.
pub(crate) fn result(given: Option<&Value>) -> Result<Row, NodeError> {
    match given {
        None => Ok(of_text("")),
        Some(Value::Message(Message { text, .. })) => Ok(of_text(text)),
        Some(Value::Json(Json::String(text))) => Ok(of_text(text)),
        Some(Value::Data(data)) => Ok(data.clone()),
        Some(value @ (Value::Table(_) | Value::Json(_))) => {
            let message = format!(
                "a turn of a loop must end in text or data, not {}",
                value.type_name()
            );
            Err(NodeError::permanent("loop_result", message))
        }
    }
}

/// What the loop gives when all turns are over. Nothing follows its items outside of the turns.
pub(crate) fn done(call: &NodeCall, results: Vec<Row>) -> NodeOutput {
    let mut output = NodeOutput::default();
    if super::wants(call, DONE) {
        output.values.insert(DONE.to_owned(), Value::Table(results));
    }
    output.stopped.push(ITEM.to_owned());
    output
}

/// A loop that is called like any component.
pub(super) fn not_driven(call: &NodeCall) -> NodeError {
    NodeError::permanent(
        "flow_unsupported",
        format!("{} can only run as a node of a flow", call.node.display_name),
    )
}

fn of_text(text: &str) -> Row {
    Map::from_iter([(TEXT.to_owned(), text.into())])
}
