//! A drawn flow: what it is made of, before it is a document.

use std::fmt;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::components::{COMPONENTS, Component, Fields, Type};
use super::texts::text;
use crate::case::Case;
use crate::draw::{Draw, component_of};
use crate::wheels;

#[derive(Debug, Clone)]
pub(super) struct Node {
    component: &'static Component,
    pub(super) fields: Fields,
    /// It keeps its name when others go.
    number: usize,
}

/// From a node's output to a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edge {
    from: (usize, &'static str),
    to: (usize, &'static str),
}

#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) input: String,
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
}

impl Spec {
    pub(super) fn draw(rng: &mut StdRng) -> Self {
        let mut spec = Self {
            input: text(rng),
            nodes: Vec::new(),
            edges: Vec::new(),
        };
        for number in 0..rng.random_range(2..10) {
            let component = spec.component(rng);
            let fields = (component.fields)(rng);
            let feeds = spec.feeds(rng, number, component);
            spec.edges.extend(feeds);
            spec.nodes.push(Node {
                component,
                fields,
                number,
            });
        }
        spec
    }

    /// One whose inputs can be fed, mostly.
    fn component(&self, rng: &mut StdRng) -> &'static Component {
        let fed = |takes| self.nodes.iter().any(|node| node.gives(takes).next().is_some());
        let lenient = rng.random_bool(0.02);
        let candidates: Vec<&Component> = COMPONENTS
            .iter()
            .filter(|component| {
                let mut needed = component.inputs.iter().filter(|input| input.often > 90);
                lenient || needed.all(|input| fed(input.takes))
            })
            .collect();
        let chosen = candidates.choose_weighted(rng, |component| component.weight);
        chosen.copied().unwrap()
    }

    /// Edges from nodes before it.
    fn feeds(&self, rng: &mut StdRng, number: usize, component: &Component) -> Vec<Edge> {
        let mut feeds = Vec::new();
        for input in component.inputs {
            let gives: Vec<(usize, &'static str)> = self
                .nodes
                .iter()
                .flat_map(|node| node.gives(input.takes).map(|output| (node.number, output)))
                .filter(|from| self.may_feed(*from, component))
                .collect();
            if rng.random_ratio(input.often, 100) {
                // The nearest are likelier: chains go deep.
                let near = gives.len().saturating_sub(4);
                let from = if rng.random_bool(0.6) {
                    &gives[near..]
                } else {
                    &gives
                };
                feeds.extend(from.choose(rng).map(|from| Edge {
                    from: *from,
                    to: (number, input.field),
                }));
            }
        }
        feeds
    }

    /// lfx's Chat Output changes the very message that it is given, also for whoever has it besides and happens to run
    /// later. So what it is given goes nowhere else, and comes from a component that makes messages.
    fn may_feed(&self, from: (usize, &str), component: &Component) -> bool {
        let mut others = self.edges.iter().filter(|edge| edge.from == from);
        if component.name != "ChatOutput" {
            return others.all(|edge| !self.id(edge.to.0).starts_with("ChatOutput"));
        }
        let passes_on = ["TypeConverter-", "ConditionalRouter-", "ChatOutput-"];
        let source = self.id(from.0);
        let is_shared = passes_on.iter().any(|name| source.starts_with(name)) && !from.1.starts_with("data");
        others.next().is_none() && !is_shared
    }

    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// The same without a node and its edges.
    pub(super) fn without(&self, place: usize) -> Self {
        let mut spec = self.clone();
        let gone = spec.nodes.remove(place).number;
        spec.edges.retain(|edge| edge.from.0 != gone && edge.to.0 != gone);
        spec
    }

    fn id(&self, number: usize) -> String {
        let node = self.nodes.iter().find(|node| node.number == number).unwrap();
        format!("{}-{number}", node.component.name)
    }

    pub(super) fn case(&self, name: String) -> Case {
        let mut draw = Draw::new();
        for node in &self.nodes {
            let id = self.id(node.number);
            draw = draw.nodes(&[&id]);
            for (field, value) in &node.fields {
                draw = draw.set(&format!("{id}.{field}"), value.clone());
            }
        }
        for edge in &self.edges {
            let from = format!("{}.{}", self.id(edge.from.0), edge.from.1);
            draw = draw.edge(&from, &format!("{}.{}", self.id(edge.to.0), edge.to.1));
        }
        Case::new(name, draw.flow).input(&self.input)
    }
}

impl Node {
    fn gives(&self, takes: &'static [Type]) -> impl Iterator<Item = &'static str> {
        let outputs = self.component.outputs.iter();
        outputs
            .filter(|(_, kind)| takes.contains(kind))
            .map(|(name, _)| *name)
    }
}

/// In short: nodes with what they were given, and edges.
impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input {:?};", self.input)?;
        for node in &self.nodes {
            write!(f, " {}(", self.id(node.number))?;
            let defaults = &wheels::component(component_of(node.component.name))["template"];
            for (field, value) in node
                .fields
                .iter()
                .filter(|(field, value)| defaults[field]["value"] != *value)
            {
                write!(f, "{field}={value} ")?;
            }
            write!(f, ")")?;
        }
        for edge in &self.edges {
            write!(f, " {}.{}->{}.{}", edge.from.0, edge.from.1, edge.to.0, edge.to.1)?;
        }
        Ok(())
    }
}
