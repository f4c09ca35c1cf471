//! Embeddings: where texts lie in meaning, as a model says.
//!
//! Asks as langchain's client does: texts go as tokens, those too long for the model in pieces whose vectors are
//! averaged, and so many to a request.

mod tokens;
mod wire;

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde_json::Value as Json;

use super::fault::{self, Fault};
use super::{CallLimits, Endpoint, Protocol, retry, stream};
use crate::component::{NodeContext, NodeError};
use crate::metrics as names;

use tokens::Piece;

/// Texts a request has when nobody says otherwise.
pub(crate) const AT_ONCE: usize = 1_000;
/// Bytes of one answer: 2,048 vectors of the largest models, as numbers in text.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// A model that embeds.
#[derive(Debug, Clone)]
pub(crate) struct Embedder {
    pub endpoint: Endpoint,
    pub model: String,
    /// Texts in one request.
    pub at_once: usize,
}

/// What makes tokens of texts for a model, if that is known here.
pub(crate) fn knows(model: &str) -> bool {
    tokens::knows(model)
}

impl Embedder {
    /// A vector for each text.
    pub(crate) async fn embed(
        &self,
        ctx: &NodeContext,
        texts: &[String],
    ) -> Result<Vec<Vec<f64>>, NodeError> {
        let asked = async {
            tokio::select! {
                biased;
                () = ctx.cancel.cancelled() => Err(NodeError::permanent("cancelled", "the run was cancelled")),
                vectors = self.all(ctx, texts) => vectors,
            }
        };
        Box::pin(asked).await
    }

    async fn all(&self, ctx: &NodeContext, texts: &[String]) -> Result<Vec<Vec<f64>>, NodeError> {
        let texts = texts.to_vec();
        // Long texts take long.
        let pieces = tokio::task::spawn_blocking(move || tokens::pieces(&texts));
        let (count, pieces) = pieces
            .await
            .map_err(|_| NodeError::permanent("component_panicked", "texts could not be made into tokens"))?;
        let mut vectors = Vec::with_capacity(pieces.len());
        for batch in tokens::batches(&pieces, self.at_once) {
            let input = batch
                .iter()
                .map(|piece| Json::from(piece.tokens.as_slice()))
                .collect();
            vectors.extend(self.ask(ctx, &input, batch.len()).await?);
        }
        let mut whole = joined(count, &pieces, vectors);
        if whole.iter().any(Option::is_none) {
            let empty = self.ask(ctx, &Json::String(String::new()), 1).await?.pop();
            for vector in &mut whole {
                *vector = vector.take().or_else(|| empty.clone());
            }
        }
        Ok(whole.into_iter().flatten().collect())
    }

    /// One request, again while that can help.
    async fn ask(&self, ctx: &NodeContext, input: &Json, count: usize) -> Result<Vec<Vec<f64>>, NodeError> {
        let body = wire::body(&self.model, input);
        let limits = &ctx.model.limits;
        let idempotency = uuid::Uuid::now_v7().to_string();
        let mut tries = 0;
        let answer = loop {
            let fault = match self.attempt(ctx, &body, count, limits, &idempotency).await {
                Ok(answer) => break Ok(answer),
                Err(fault) => fault,
            };
            let Some(wait) = retry::wait(&fault, tries, limits, rand::random()) else {
                break Err(fault.told(&self.endpoint, &self.model, tries));
            };
            tries += 1;
            tokio::time::sleep(wait).await;
        };
        let outcome = answer.as_ref().map_or_else(|error| error.code, |_| "ok");
        metrics::counter!(names::LLM_REQUESTS, "outcome" => outcome).increment(1);
        let (vectors, tokens) = answer?;
        metrics::counter!(names::LLM_TOKENS, "kind" => "input").increment(tokens);
        Ok(vectors)
    }

    async fn attempt(
        &self,
        ctx: &NodeContext,
        body: &str,
        count: usize,
        limits: &CallLimits,
        idempotency: &str,
    ) -> Result<(Vec<Vec<f64>>, u64), Fault> {
        let exchange = self.exchange(ctx, body, count, limits, idempotency);
        match tokio::time::timeout(limits.total, Box::pin(exchange)).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::timeout("the whole answer", limits.total)),
        }
    }

    async fn exchange(
        &self,
        ctx: &NodeContext,
        body: &str,
        count: usize,
        limits: &CallLimits,
        idempotency: &str,
    ) -> Result<(Vec<Vec<f64>>, u64), Fault> {
        let mut request = ctx
            .http
            .client(self.endpoint.trusted)
            .post(self.endpoint.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header("idempotency-key", idempotency)
            .body(body.to_owned());
        if let Some(key) = &self.endpoint.key {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", key.reveal())).map_err(|_| Fault::bad_key())?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let response = request.send().await.map_err(|error| Fault::unreachable(&error))?;
        if !response.status().is_success() {
            let patience = limits.idle.min(Duration::from_secs(10));
            return Err(fault::of_response(response, patience, Protocol::OpenAi).await);
        }
        let bytes = stream::read_all(response, limits.idle, MAX_ANSWER_BYTES).await?;
        wire::vectors(&bytes, count).map_err(Fault::broken)
    }
}

/// The vector of each text: that of its one piece, or what those of several average to, at length 1.
fn joined(count: usize, pieces: &[Piece], vectors: Vec<Vec<f64>>) -> Vec<Option<Vec<f64>>> {
    let mut of: Vec<Vec<(Vec<f64>, usize)>> = vec![Vec::new(); count];
    for (piece, vector) in pieces.iter().zip(vectors) {
        if let Some(of) = of.get_mut(piece.text) {
            of.push((vector, piece.tokens.len()));
        }
    }
    let one = |mut pieces: Vec<(Vec<f64>, usize)>| {
        if pieces.len() > 1 {
            return Some(averaged(&pieces));
        }
        pieces.pop().map(|(vector, _)| vector)
    };
    of.into_iter().map(one).collect()
}

fn averaged(pieces: &[(Vec<f64>, usize)]) -> Vec<f64> {
    let total: usize = pieces.iter().map(|(_, weight)| weight).sum();
    let length = pieces
        .iter()
        .map(|(vector, _)| vector.len())
        .min()
        .unwrap_or_default();
    let at = |place: usize| {
        let weighted = pieces
            .iter()
            .map(|(vector, weight)| vector[place] * *weight as f64);
        weighted.fold(0.0, |sum, part| sum + part) / total as f64
    };
    let average: Vec<f64> = (0..length).map(at).collect();
    let magnitude = average
        .iter()
        .fold(0.0, |sum, number| sum + number * number)
        .sqrt();
    average.into_iter().map(|number| number / magnitude).collect()
}

#[cfg(test)]
mod tests;
