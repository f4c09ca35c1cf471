//! What both databases share of knowledge: what may be written, which chunks of a call are, and which are nearest.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use flowfleet_core::knowledge::{
    BATCH, CHUNKS, CONTENT_BYTES, Chunk, DIMENSIONS, Distance, FOUND, Found, Ingest, Ingested, Knowledge,
    METADATA_BYTES, MODEL_BYTES, NewKnowledge, SCAN_BYTES, SETTINGS_BYTES, Search, Tags, tagged,
};
use serde_json::Value;
use sqlx::{Database, Encode, QueryBuilder, Type};
use uuid::Uuid;

use crate::batch::long;
use crate::columns::columns;
use crate::error::Error;
use crate::row::parse;
use crate::value::{Id, Time};

/// Bytes of a chunk's hash.
const HASH_BYTES: usize = 128;
/// Bytes of a chunk's tags, as JSON.
const TAGS_BYTES: usize = METADATA_BYTES;
/// What a search says of a base that was deleted.
pub(crate) const GONE: &str = "the knowledge base does not exist any more";
/// Chunks that the database gives beyond those that are wanted: it may see equal distances otherwise.
pub(crate) const MARGIN: u32 = 64;

macro_rules! knowledge_columns {
    () => {
        "id, name, provider, model, settings, dimensions, chunks, words, characters, created_at"
    };
}
pub(crate) use knowledge_columns;

columns! {
    /// A base.
    pub(crate) struct KnowledgeRow {
        id: Id,
        pub(crate) name: String,
        provider: String,
        model: String,
        settings: String,
        dimensions: Option<i32>,
        chunks: i64,
        words: i64,
        characters: i64,
        created_at: Time,
    }
}

impl KnowledgeRow {
    pub(crate) fn knowledge(self) -> Result<Knowledge, Error> {
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        Ok(Knowledge {
            id: self.id.0,
            name: parse("knowledge base name", &self.name)?,
            provider: self.provider,
            model: self.model,
            settings: serde_json::from_str(&self.settings)?,
            dimensions: self.dimensions.and_then(|number| u32::try_from(number).ok()),
            chunks: count(self.chunks),
            words: count(self.words),
            characters: count(self.characters),
            created_at: self.created_at.stamp(),
        })
    }
}

columns! {
    /// What a writer or a search looks at first.
    pub(crate) struct SizeRow {
        pub(crate) dimensions: Option<i32>,
        pub(crate) chunks: i64,
    }
}

columns! {
    /// A chunk that is there.
    pub(crate) struct KnownRow {
        id: Id,
        hash: String,
    }
}

columns! {
    pub(crate) struct TagsRow {
        pub(crate) seq: i64,
        pub(crate) tags: String,
    }
}

columns! {
    /// What a chunk says.
    pub(crate) struct ContentRow {
        seq: i64,
        content: String,
        metadata: String,
    }
}

/// PostgreSQL's texts hold no such character.
fn whole(text: &str) -> String {
    text.replace('\0', "")
}

/// The settings of a base to make, as text.
pub(crate) fn settings(new: &NewKnowledge) -> Result<String, Error> {
    let settings = new.settings.to_string();
    if settings.len() > SETTINGS_BYTES {
        return Err(Error::Refused(format!(
            "the settings of a knowledge base have at most {SETTINGS_BYTES} bytes"
        )));
    }
    for name in [&new.provider, &new.model] {
        if name.is_empty() || name.len() > MODEL_BYTES || name.contains('\0') {
            return Err(Error::Refused(format!(
                "the names of an embedding model and its provider have 1 to {MODEL_BYTES} bytes"
            )));
        }
    }
    Ok(settings)
}

pub(crate) fn too_many_bases() -> Error {
    let most = flowfleet_core::knowledge::BASES;
    Error::Refused(format!(
        "there are {most} knowledge bases: delete one before making another"
    ))
}

/// Whether a call's chunks may be written at all; their dimensions.
pub(crate) fn checked(ingest: &Ingest) -> Result<usize, Error> {
    let refused = |what: String| Err(Error::Refused(what));
    if ingest.chunks.len() > BATCH {
        return refused(format!("at most {BATCH} chunks in one call"));
    }
    let dimensions = ingest.chunks.first().map_or(0, |chunk| chunk.vector.len());
    for chunk in &ingest.chunks {
        if chunk.content.len() > CONTENT_BYTES {
            return refused(format!(
                "a chunk has at most {CONTENT_BYTES} bytes: split the text first"
            ));
        }
        if chunk.hash.is_empty() || chunk.hash.len() > HASH_BYTES {
            return refused(format!("the hash of a chunk has 1 to {HASH_BYTES} bytes"));
        }
        let tags = chunk.tags.values().flatten().map(String::len).sum::<usize>();
        if chunk.metadata.to_string().len() > METADATA_BYTES || tags > TAGS_BYTES {
            return refused(format!(
                "the metadata of a chunk has at most {METADATA_BYTES} bytes"
            ));
        }
        if chunk.vector.len() != dimensions {
            return refused("the vectors of a call have the same dimensions".to_owned());
        }
        vector(&chunk.vector)?;
    }
    Ok(dimensions)
}

fn vector(vector: &[f32]) -> Result<(), Error> {
    if vector.is_empty() || vector.len() > DIMENSIONS {
        return Err(Error::Refused(format!(
            "a vector has 1 to {DIMENSIONS} dimensions"
        )));
    }
    if vector.iter().all(|number| number.is_finite()) {
        return Ok(());
    }
    Err(Error::Refused("a vector has finite numbers only".to_owned()))
}

/// Why a base does not take the chunks.
pub(crate) fn unfit(size: &SizeRow, dimensions: usize, more: usize) -> Option<Ingested> {
    if let Some(known) = size.dimensions
        && usize::try_from(known) != Ok(dimensions)
    {
        return Some(Ingested::Dimensions(known.unsigned_abs()));
    }
    let full = size.chunks.saturating_add(long(more)) > long(CHUNKS);
    full.then_some(Ingested::Full)
}

/// What becomes of each chunk of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Written,
    /// By an earlier call.
    There,
    Duplicate,
}

/// What becomes of each chunk, given the chunks of the base that share an id or a hash with one.
pub(crate) fn fates(chunks: &[Chunk], unique: bool, known: &[KnownRow]) -> Vec<Fate> {
    let ids: HashSet<Uuid> = known.iter().map(|row| row.id.0).collect();
    let mut hashes: HashSet<&str> = known.iter().map(|row| row.hash.as_str()).collect();
    let mut written: HashSet<Uuid> = HashSet::new();
    let mut fates = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        fates.push(if ids.contains(&chunk.id) || written.contains(&chunk.id) {
            Fate::There
        } else if unique && !hashes.insert(&chunk.hash) {
            Fate::Duplicate
        } else {
            written.insert(chunk.id);
            Fate::Written
        });
    }
    fates
}

pub(crate) fn written<'c>(chunks: &'c [Chunk], fates: &[Fate]) -> Vec<&'c Chunk> {
    let written = chunks
        .iter()
        .zip(fates)
        .filter(|(_, fate)| **fate == Fate::Written);
    written.map(|(chunk, _)| chunk).collect()
}

/// Which of these chunks no other chunk shares a hash with.
pub(crate) fn unknown(chunks: &[(Uuid, String)], known: &[KnownRow]) -> Vec<bool> {
    let mut holders: HashMap<&str, Vec<Uuid>> = HashMap::new();
    for row in known {
        holders.entry(&row.hash).or_default().push(row.id.0);
    }
    let alone = |(id, hash): &(Uuid, String)| {
        let others = holders.get(hash.as_str());
        others.is_none_or(|others| others.iter().all(|other| other == id))
    };
    chunks.iter().map(alone).collect()
}

/// Words and characters, as Python counts them.
pub(crate) fn counted(chunks: &[&Chunk]) -> (i64, i64) {
    let words = chunks
        .iter()
        .map(|chunk| chunk.content.split_whitespace().count());
    let characters = chunks.iter().map(|chunk| chunk.content.chars().count());
    (long(words.sum::<usize>()), long(characters.sum::<usize>()))
}

/// The statement that writes chunks. `own` is a vector as the database keeps it.
pub(crate) fn insert<'a, D, V>(
    knowledge: Uuid,
    chunks: &[&'a Chunk],
    own: impl Fn(&'a [f32]) -> V,
) -> Result<QueryBuilder<'a, D>, Error>
where
    D: Database,
    Id: Encode<'a, D> + Type<D>,
    String: Encode<'a, D> + Type<D>,
    Option<String>: Encode<'a, D> + Type<D>,
    &'a str: Encode<'a, D> + Type<D>,
    V: Encode<'a, D> + Type<D> + Send + 'a,
{
    let mut rows = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let tags = match chunk.tags.is_empty() {
            true => None,
            false => Some(serde_json::to_string(&chunk.tags)?),
        };
        rows.push((*chunk, tags));
    }
    let mut sql = QueryBuilder::new(
        "INSERT INTO knowledge_chunks (knowledge, id, hash, content, metadata, tags, embedding) ",
    );
    sql.push_values(rows, |mut row, (chunk, tags)| {
        row.push_bind(Id(knowledge))
            .push_bind(Id(chunk.id))
            .push_bind(chunk.hash.as_str())
            .push_bind(whole(&chunk.content))
            .push_bind(chunk.metadata.to_string())
            .push_bind(tags)
            .push_bind(own(&chunk.vector));
    });
    Ok(sql)
}

/// Whether there is anything to look for; what cannot be searched is an error.
pub(crate) fn searchable(size: &SizeRow, search: &Search) -> Result<bool, Error> {
    vector(&search.vector)?;
    let Some(dimensions) = size.dimensions else {
        return Ok(false);
    };
    if usize::try_from(dimensions) != Ok(search.vector.len()) {
        return Err(Error::Refused(format!(
            "the knowledge base holds vectors of {dimensions} dimensions and cannot be searched by one of {}",
            search.vector.len()
        )));
    }
    Ok(search.limit > 0)
}

/// Whether the vectors may be read for a search.
pub(crate) fn scannable(size: &SizeRow, remedy: &str) -> Result<(), Error> {
    let dimensions = u64::from(size.dimensions.unwrap_or_default().unsigned_abs());
    let bytes = u64::try_from(size.chunks).unwrap_or_default() * dimensions * 4;
    if bytes <= SCAN_BYTES {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "the knowledge base has {bytes} bytes of vectors and at most {SCAN_BYTES} are searched without an extension: \
         {remedy}"
    )))
}

pub(crate) fn has_tags(tags: &str, wanted: &Tags) -> Result<bool, Error> {
    let tags: BTreeMap<String, Vec<String>> = serde_json::from_str(tags)?;
    Ok(tagged(&tags, wanted))
}

/// A chunk on the way to the nearest: the heap has the farthest on top.
#[derive(Debug)]
struct Near {
    distance: f64,
    seq: i64,
    vector: Vec<f32>,
}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_distance = self.distance.total_cmp(&other.distance);
        by_distance.then_with(|| self.seq.cmp(&other.seq))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Near {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Near {}

/// The nearest of the chunks that it is shown.
#[derive(Debug)]
pub(crate) struct Nearest<'s> {
    from: Distance<'s>,
    dimensions: usize,
    limit: usize,
    heap: BinaryHeap<Near>,
}

impl<'s> Nearest<'s> {
    pub(crate) fn to(search: &'s Search) -> Self {
        Self {
            from: Distance::from(&search.vector),
            dimensions: search.vector.len(),
            limit: search.limit.min(FOUND) as usize,
            heap: BinaryHeap::new(),
        }
    }

    pub(crate) fn see(&mut self, seq: i64, vector: Vec<f32>) -> Result<(), Error> {
        if vector.len() != self.dimensions {
            return Err(Error::Data(format!(
                "chunk {seq} has {} dimensions in a base of {}",
                vector.len(),
                self.dimensions
            )));
        }
        let distance = self.from.to(&vector);
        let near = Near {
            distance,
            seq,
            vector,
        };
        if self.heap.len() < self.limit {
            self.heap.push(near);
        } else if let Some(mut farthest) = self.heap.peek_mut()
            && near < *farthest
        {
            *farthest = near;
        }
        Ok(())
    }

    pub(crate) fn seqs(&self) -> Vec<i64> {
        self.heap.iter().map(|near| near.seq).collect()
    }

    /// With what they say; one that was deleted meanwhile is left out.
    pub(crate) fn found(self, rows: Vec<ContentRow>) -> Result<Vec<Found>, Error> {
        let mut rows: HashMap<i64, ContentRow> = rows.into_iter().map(|row| (row.seq, row)).collect();
        let mut found = Vec::with_capacity(rows.len());
        for near in self.heap.into_sorted_vec() {
            let Some(row) = rows.remove(&near.seq) else {
                continue;
            };
            found.push(Found {
                content: row.content,
                metadata: serde_json::from_str::<Value>(&row.metadata)?,
                vector: near.vector,
                distance: near.distance,
            });
        }
        Ok(found)
    }
}
