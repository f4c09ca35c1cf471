//! Query strings, parsed strictly: unknown and repeated parameters are refused by name.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flowfleet_core::Labels;
use sha2::{Digest, Sha256};

use super::problem::{Code, Problem};

/// Parameters in one query at most.
const MAX_PARAMS: usize = 200;

/// The pairs of a query string, to be taken out by name; what is left is unknown.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

impl Query {
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let mut pairs = Vec::new();
        for (key, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if pairs.len() >= MAX_PARAMS {
                return Err(refuse(format!(
                    "a query may have at most {MAX_PARAMS} parameters"
                )));
            }
            pairs.push((key.into_owned(), value.into_owned()));
        }
        Ok(Self {
            pairs,
            known: Vec::new(),
        })
    }

    /// All values of a parameter that may be repeated.
    pub(crate) fn many(&mut self, name: &'static str) -> Vec<String> {
        if self.pairs.is_empty() {
            // Nothing is left that could be refused.
            return Vec::new();
        }
        self.known.push(name);
        let mut taken = Vec::new();
        self.pairs.retain_mut(|(key, value)| {
            let hit = key == name;
            if hit {
                taken.push(std::mem::take(value));
            }
            !hit
        });
        taken
    }

    /// The value of a parameter that may be given once.
    pub(crate) fn one(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        let mut values = self.many(name);
        match values.len() {
            0 => Ok(None),
            1 => Ok(values.pop()),
            _ => Err(refuse(format!("query parameter {name:?} may be given once only"))),
        }
    }

    /// The same, parsed.
    pub(crate) fn parsed<T: FromStr>(&mut self, name: &'static str) -> Result<Option<T>, Problem>
    where
        T::Err: Display,
    {
        self.one(name)?.map(|text| value(name, &text)).transpose()
    }

    /// `limit`, 1 to 1000, 50 when absent.
    pub(crate) fn limit(&mut self) -> Result<u32, Problem> {
        let limit = self.parsed::<u32>("limit")?.unwrap_or(50);
        if (1..=1000).contains(&limit) {
            return Ok(limit);
        }
        Err(refuse(format!(
            "query parameter \"limit\" must be between 1 and 1000, found {limit}"
        )))
    }

    /// `wait_s`: whole or fractional seconds up to a limit.
    pub(crate) fn wait(&mut self, most: u64) -> Result<Option<std::time::Duration>, Problem> {
        let Some(seconds) = self.parsed::<f64>("wait_s")? else {
            return Ok(None);
        };
        if (0.0..=most as f64).contains(&seconds) {
            return Ok(Some(std::time::Duration::from_secs_f64(seconds)));
        }
        Err(refuse(format!(
            "query parameter \"wait_s\" must be between 0 and {most}, found {seconds}"
        )))
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        let Some((name, _)) = self.pairs.first() else {
            return Ok(());
        };
        let name: String = name.chars().take(64).collect();
        let known = if self.known.is_empty() {
            "this call takes none".to_owned()
        } else {
            format!("this call knows {}", self.known.join(", "))
        };
        Err(refuse(format!("query parameter {name:?} is not known: {known}")))
    }
}

/// Parses one value, naming its parameter in the refusal.
pub(crate) fn value<T: FromStr>(name: &'static str, text: &str) -> Result<T, Problem>
where
    T::Err: Display,
{
    text.parse()
        .map_err(|error| refuse(format!("query parameter {name:?}: {error}")))
}

pub(crate) fn refuse(detail: String) -> Problem {
    Problem::new(Code::Invalid, detail)
}

/// A handler without parameters takes this: any query is refused.
#[derive(Debug)]
pub(crate) struct NoQuery;

impl<S: Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Query::parse(parts.uri.query().unwrap_or_default())?.finish()?;
        Ok(Self)
    }
}

/// An opaque position in a listing, bound to the filter it was made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope([u8; 8]);

impl Scope {
    /// `parts` must say everything that decides which items are listed, aside from the position and the limit.
    pub(crate) fn new(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        Self(first)
    }

    pub(crate) fn cursor(self, position: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode([&self.0[..], position].concat())
    }

    /// The position in a cursor of this listing.
    pub(crate) fn position(self, cursor: &str) -> Result<Vec<u8>, Problem> {
        let bytes = if cursor.len() <= 512 {
            URL_SAFE_NO_PAD.decode(cursor).ok()
        } else {
            None
        };
        bytes
            .filter(|bytes| bytes.len() > 8 && bytes[..8] == self.0)
            .map(|bytes| bytes[8..].to_vec())
            .ok_or_else(|| {
                refuse("query parameter \"cursor\" does not belong to this listing: pass next_cursor of the page \
                        before, with the same filters".to_owned())
            })
    }
}

/// Labels as queries give them: `key:value`, each key once.
pub(crate) fn labels(values: Vec<String>) -> Result<Vec<(String, String)>, Problem> {
    let mut seen = BTreeMap::new();
    let mut labels = Vec::with_capacity(values.len());
    for value in values {
        let Some((key, wanted)) = value.split_once(':') else {
            return Err(refuse(
                "query parameter \"label\" must look like key:value".to_owned(),
            ));
        };
        if seen.insert(key.to_owned(), wanted.to_owned()).is_some() {
            return Err(refuse(format!("label {key:?} is asked for twice")));
        }
        labels.push((key.to_owned(), wanted.to_owned()));
    }
    // What no run may carry is a mistake, and PostgreSQL refuses some of it.
    Labels::try_from(seen).map_err(|error| refuse(format!("query parameter \"label\": {error}")))?;
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_nobody_takes_is_refused_by_name() {
        let mut query = Query::parse("limit=3&colour=red").unwrap();
        assert_eq!(query.limit().unwrap(), 3);
        let problem = query.finish().unwrap_err();
        assert!(
            problem.detail.contains("\"colour\"") && problem.detail.contains("limit"),
            "{}",
            problem.detail
        );
        assert!(
            Query::parse("a=1")
                .unwrap()
                .finish()
                .unwrap_err()
                .detail
                .contains("takes none")
        );
    }

    #[test]
    fn table_of_bad_values() {
        for text in ["limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "limit="] {
            assert!(Query::parse(text).unwrap().limit().is_err(), "{text}");
        }
        for text in ["wait_s=-1", "wait_s=301", "wait_s=NaN", "wait_s=inf", "wait_s=x"] {
            assert!(Query::parse(text).unwrap().wait(300).is_err(), "{text}");
        }
        for bad in ["nocolon", ":v", "k:\0", "a b:v"] {
            assert!(labels(vec![bad.into()]).is_err(), "{bad}");
        }
        assert_eq!(
            labels(vec!["k:v:w".into()]).unwrap(),
            [("k".to_owned(), "v:w".to_owned())]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn cursors_round_trip_and_belong_to_one_listing(
            position in proptest::collection::vec(any::<u8>(), 1..40), filter in ".{0,20}", other in ".{0,20}",
        ) {
            let scope = Scope::new(&["runs", &filter]);
            let cursor = scope.cursor(&position);
            prop_assert_eq!(scope.position(&cursor).unwrap(), position);
            if other != filter {
                prop_assert!(Scope::new(&["runs", &other]).position(&cursor).is_err());
            }
        }

        #[test]
        fn garbage_cursors_and_queries_never_panic(text in ".{0,300}") {
            let _ = Scope::new(&["x"]).position(&text);
            let _ = Query::parse(&text).map(Query::finish);
        }
    }
}
