//! The shape that structured output has: told to a model as a JSON schema, and checked in what it says.
//!
//! Values are read leniently, as Langflow's models of data are: a number may come as text, a truth value as a word.

use serde_json::{Map, Value as Json, json};

/// The name of one object.
const OBJECT: &str = "OutputModel";
const MOST_FIELDS: usize = 256;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Integer,
    Number,
    Boolean,
    List,
    Object,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    name: String,
    description: Option<String>,
    kind: Type,
    multiple: bool,
}

/// The fields of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schema(Vec<Field>);

impl Schema {
    /// From the rows of a table: name, type, description, multiple.
    pub(crate) fn of(rows: &[Json]) -> Result<Self, String> {
        let mut fields: Vec<Field> = Vec::new();
        for row in rows {
            let field = Field::of(row)?;
            match fields.iter_mut().find(|other| other.name == field.name) {
                Some(other) => *other = field,
                None => fields.push(field),
            }
        }
        match fields.len() {
            0 => Err("has no fields: add one".to_owned()),
            1..=MOST_FIELDS => Ok(Self(fields)),
            _ => Err(format!("has more than {MOST_FIELDS} fields")),
        }
    }

    /// The schema of a list of such objects that is called `name`. Strict ones forbid anything else.
    pub(crate) fn list(&self, name: &str, strict: bool) -> Json {
        let about = format!("A list of {name}.");
        self.container(name, ("objects", &about, &about), strict)
    }

    /// This name, or one like it that no field has.
    pub(crate) fn free_name(&self, name: &str) -> String {
        let mut name = name.to_owned();
        while self.0.iter().any(|field| field.name == name) {
            name.push('_');
        }
        name
    }

    /// The schema of an object that is called `name` and has a list of such objects, with what is said of both.
    pub(crate) fn container(
        &self,
        name: &str,
        (list, about, items): (&str, &str, &str),
        strict: bool,
    ) -> Json {
        let closed = |mut schema: Json| {
            if strict {
                schema["additionalProperties"] = false.into();
            }
            schema
        };
        let properties: Map<String, Json> = self
            .0
            .iter()
            .map(|field| (field.name.clone(), field.schema()))
            .collect();
        let required: Vec<&str> = self.0.iter().map(|field| field.name.as_str()).collect();
        let object =
            json!({"properties": properties, "required": required, "title": OBJECT, "type": "object"});
        closed(json!({
            "$defs": {OBJECT: closed(object)},
            "description": about,
            "properties": {list: {
                "description": items,
                "items": {"$ref": format!("#/$defs/{OBJECT}")},
                "minItems": 1,
                "title": title(list),
                "type": "array",
            }},
            "required": [list],
            "title": name,
            "type": "object",
        }))
    }

    /// The objects of an answer, at least one, or what is wrong with them.
    pub(crate) fn objects(&self, answer: &Map<String, Json>) -> Result<Vec<Map<String, Json>>, String> {
        let Some(Json::Array(items)) = answer.get("objects") else {
            return Err("objects: must be a list".to_owned());
        };
        if items.is_empty() {
            return Err("objects: must have one item at least".to_owned());
        }
        let objects = items.iter().enumerate().map(|(index, item)| {
            self.object(item)
                .map_err(|wrong| format!("objects.{index}{wrong}"))
        });
        objects.collect()
    }

    pub(crate) fn object(&self, item: &Json) -> Result<Map<String, Json>, String> {
        let Json::Object(item) = item else {
            return Err(": must be an object".to_owned());
        };
        let mut object = Map::new();
        for field in &self.0 {
            let value = item
                .get(&field.name)
                .ok_or_else(|| format!(".{}: is missing", field.name))?;
            let value = field.read(value).ok_or_else(|| {
                let what = field.kind.name();
                let many = if field.multiple { "a list of " } else { "" };
                format!(".{}: must be {many}{what}", field.name)
            })?;
            object.insert(field.name.clone(), value);
        }
        Ok(object)
    }
}

impl Field {
    fn of(row: &Json) -> Result<Self, String> {
        let text = |key: &str| row.get(key).and_then(Json::as_str);
        let name = text("name").ok_or("has a field without a name")?;
        if name.starts_with('_') || name == "model_config" {
            return Err(format!(
                "has a field {name:?}, which no object can have: rename it"
            ));
        }
        let kind = match text("type").unwrap_or_default() {
            "str" | "text" => Type::Text,
            "int" => Type::Integer,
            "float" | "number" => Type::Number,
            "bool" | "boolean" => Type::Boolean,
            "list" => Type::List,
            "dict" => Type::Object,
            other => {
                return Err(format!(
                    "has a field {name:?} of the type {other:?}: use str, int, float, bool, list or dict"
                ));
            }
        };
        let description = match row.get("description") {
            None => Some(String::new()),
            Some(description) => description.as_str().map(str::to_owned),
        };
        let multiple = match row.get("multiple") {
            Some(Json::Bool(flag)) => *flag,
            Some(Json::String(word)) => {
                matches!(
                    word.trim().to_lowercase().as_str(),
                    "true" | "1" | "t" | "y" | "yes"
                )
            }
            Some(Json::Number(number)) => number.is_i64() && number.as_i64() != Some(0),
            _ => false,
        };
        Ok(Self {
            name: name.to_owned(),
            description,
            kind,
            multiple,
        })
    }

    fn schema(&self) -> Json {
        let mut schema = self.kind.schema();
        if self.multiple {
            schema = json!({"items": schema, "type": "array"});
        }
        if let Some(description) = &self.description {
            schema["description"] = description.as_str().into();
        }
        schema["title"] = title(&self.name).into();
        // Where the schema is told as text, its order is seen: pydantic's is the alphabet's.
        schema.sort_all_objects();
        schema
    }

    fn read(&self, value: &Json) -> Option<Json> {
        match (self.multiple, value) {
            (false, value) => self.kind.read(value),
            (true, Json::Array(items)) => items.iter().map(|item| self.kind.read(item)).collect(),
            (true, _) => None,
        }
    }
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::List => "a list",
            Self::Object => "an object",
        }
    }

    fn schema(self) -> Json {
        match self {
            Self::Text => json!({"type": "string"}),
            Self::Integer => json!({"type": "integer"}),
            Self::Number => json!({"type": "number"}),
            Self::Boolean => json!({"type": "boolean"}),
            Self::List => json!({"items": {}, "type": "array"}),
            Self::Object => json!({"additionalProperties": true, "type": "object"}),
        }
    }

    fn read(self, value: &Json) -> Option<Json> {
        match self {
            Self::Text => value.is_string().then(|| value.clone()),
            Self::Integer => integer(value),
            Self::Number => number(value),
            Self::Boolean => boolean(value).map(Json::Bool),
            Self::List => value.is_array().then(|| value.clone()),
            Self::Object => value.is_object().then(|| value.clone()),
        }
    }
}

fn integer(value: &Json) -> Option<Json> {
    match value {
        Json::Number(number) if number.is_f64() => {
            let number = number.as_f64().filter(|number| number.fract() == 0.0)?;
            (number.abs() < 9e18).then(|| Json::from(number as i64))
        }
        Json::Number(_) => Some(value.clone()),
        Json::Bool(flag) => Some(Json::from(i64::from(*flag))),
        Json::String(text) => {
            let text = plain(text)?;
            let whole = match text.split_once('.') {
                Some((whole, zeros)) if zeros.bytes().all(|digit| digit == b'0') => whole,
                Some(_) => return None,
                None => text.as_str(),
            };
            whole.parse::<i64>().ok().map(Json::from)
        }
        _ => None,
    }
}

fn number(value: &Json) -> Option<Json> {
    match value {
        Json::Number(number) => number.as_f64().map(Json::from),
        Json::Bool(flag) => Some(Json::from(f64::from(u8::from(*flag)))),
        Json::String(text) => plain(text)?
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
            .map(Json::from),
        _ => None,
    }
}

/// A number's text without the underscores and white space that may be in it.
fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let misplaced = text.starts_with('_') || text.ends_with('_') || text.contains("__");
    (!text.is_empty() && !misplaced).then(|| text.replace('_', ""))
}

fn boolean(value: &Json) -> Option<bool> {
    match value {
        Json::Bool(flag) => Some(*flag),
        Json::Number(number) => match number.as_f64()? {
            0.0 => Some(false),
            1.0 => Some(true),
            _ => None,
        },
        Json::String(word) => match word.to_ascii_lowercase().as_str() {
            "1" | "on" | "t" | "true" | "y" | "yes" => Some(true),
            "0" | "off" | "f" | "false" | "n" | "no" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A field's name as a heading: each word begins with a capital, the rest is small.
fn title(name: &str) -> String {
    let mut in_word = false;
    let mut title = String::with_capacity(name.len());
    for c in name.chars() {
        if !c.is_alphabetic() {
            in_word = false;
            title.push(if c == '_' { ' ' } else { c });
        } else if in_word {
            title.extend(c.to_lowercase());
        } else {
            in_word = true;
            title.extend(c.to_uppercase());
        }
    }
    title.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(rows: &Json) -> Result<Schema, String> {
        Schema::of(rows.as_array().unwrap())
    }

    /// As lfx 1.13 was seen to send it.
    #[test]
    fn what_a_model_is_told() {
        let rows = json!([
            {"name": "domain", "description": "Primary company domain name", "type": "str", "multiple": "False"},
            {"name": "linkedinUrl", "description": "all tags", "type": "str", "multiple": "True"},
            {"name": "n2x_a", "description": null, "type": "int", "multiple": false},
            {"name": "d", "description": "obj", "type": "dict"},
            {"name": "l", "description": "", "type": "list", "multiple": 1},
        ]);
        let list = schema(&rows).unwrap().list("My Schema", false);
        let expected = json!({
            "$defs": {"OutputModel": {
                "properties": {
                    "domain": {"description": "Primary company domain name", "title": "Domain", "type": "string"},
                    "linkedinUrl": {"description": "all tags", "items": {"type": "string"}, "title": "Linkedinurl", "type": "array"},
                    "n2x_a": {"title": "N2X A", "type": "integer"},
                    "d": {"additionalProperties": true, "description": "obj", "title": "D", "type": "object"},
                    "l": {"description": "", "items": {"items": {}, "type": "array"}, "title": "L", "type": "array"},
                },
                "required": ["domain", "linkedinUrl", "n2x_a", "d", "l"], "title": "OutputModel", "type": "object",
            }},
            "description": "A list of My Schema.",
            "properties": {"objects": {
                "description": "A list of My Schema.", "items": {"$ref": "#/$defs/OutputModel"}, "minItems": 1,
                "title": "Objects", "type": "array",
            }},
            "required": ["objects"], "title": "My Schema", "type": "object",
        });
        assert_eq!(list, expected);
        let strict = schema(&rows).unwrap().list("X", true);
        assert_eq!(strict["additionalProperties"], false);
        assert_eq!(strict["$defs"]["OutputModel"]["additionalProperties"], false);
    }

    #[test]
    fn what_is_no_schema() {
        for rows in [
            json!([]),
            json!([{"type": "str"}]),
            json!([{"name": "a"}]),
            json!([{"name": "a", "type": "date"}]),
            json!([{"name": "_a", "type": "str"}]),
            json!([{"name": "model_config", "type": "str"}]),
            json!(["a"]),
        ] {
            assert!(schema(&rows).is_err(), "{rows}");
        }
    }

    /// Each row is what pydantic 2 makes of a value as text, integer, number, boolean, list and object.
    #[test]
    fn values_are_read_leniently() {
        let no = Json::Null;
        let types = ["str", "int", "float", "bool", "list", "dict"];
        for (value, expected) in [
            (json!(5), json!([no, 5, 5.0, no, no, no])),
            (json!("5"), json!(["5", 5, 5.0, no, no, no])),
            (json!("5.0"), json!(["5.0", 5, 5.0, no, no, no])),
            (json!("5.5"), json!(["5.5", no, 5.5, no, no, no])),
            (json!(5.0), json!([no, 5, 5.0, no, no, no])),
            (json!(5.5), json!([no, no, 5.5, no, no, no])),
            (json!(true), json!([no, 1, 1.0, true, no, no])),
            (json!("YES"), json!(["YES", no, no, true, no, no])),
            (json!("t"), json!(["t", no, no, true, no, no])),
            (json!(0), json!([no, 0, 0.0, false, no, no])),
            (json!(2), json!([no, 2, 2.0, no, no, no])),
            (json!(1.0), json!([no, 1, 1.0, true, no, no])),
            (json!(null), json!([no, no, no, no, no, no])),
            (json!([]), json!([no, no, no, no, [], no])),
            (json!({}), json!([no, no, no, no, no, {}])),
            (json!(""), json!(["", no, no, no, no, no])),
            (json!(" 5 "), json!([" 5 ", 5, 5.0, no, no, no])),
            (json!("1e3"), json!(["1e3", no, 1000.0, no, no, no])),
            (json!("1_000"), json!(["1_000", 1000, 1000.0, no, no, no])),
            (json!([1]), json!([no, no, no, no, [1], no])),
        ] {
            for (kind, expected) in types.into_iter().zip(expected.as_array().unwrap()) {
                let schema = schema(&json!([{"name": "a", "type": kind}])).unwrap();
                let answer = json!({"objects": [{"a": value, "other": 1}]});
                let objects = schema.objects(answer.as_object().unwrap());
                let read = objects.map(|objects| json!(objects)).unwrap_or_default();
                let expected = if expected.is_null() {
                    Json::Null
                } else {
                    json!([{"a": expected}])
                };
                assert_eq!(read, expected, "{value} as {kind}");
            }
        }
        let one = schema(&json!([{"name": "a", "type": "str"}])).unwrap();
        for wrong in [
            json!({}),
            json!({"objects": []}),
            json!({"objects": {}}),
            json!({"objects": [1]}),
            json!({"objects": [{}]}),
        ] {
            assert!(one.objects(wrong.as_object().unwrap()).is_err(), "{wrong}");
        }
    }
}
