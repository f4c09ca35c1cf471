//! Fuzz target: any bytes as a batch file. Compiled for tests and for `fuzz/` only.

use super::{Line, Lines};
use crate::failure::Result;

/// A file is refused with the line, or its runs come in the order of their lines and read the same as NDJSON. The
/// first byte says whether the rest is CSV.
pub(crate) fn batch_file(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else {
        return;
    };
    let Ok((runs, refusal)) = read(text, *kind == b'c') else {
        return;
    };
    let most = text.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() as u64 + 1;
    assert!(runs.is_sorted_by(|a, b| a.number < b.number), "{runs:?}");
    assert!(
        runs.iter().all(|line| (1..=most).contains(&line.number)),
        "{runs:?} of {most}"
    );
    assert!(refusal.is_none_or(|message| message.contains("f, line ") || message.starts_with("f: ")));
    let mut ndjson = Vec::new();
    for line in &runs {
        ndjson.extend_from_slice(&serde_json::to_vec(&line.run).unwrap_or_default());
        ndjson.push(b'\n');
    }
    let again = read(&ndjson, false).map(|(again, _)| again).unwrap_or_default();
    assert!(
        again
            .iter()
            .map(|line| &line.run)
            .eq(runs.iter().map(|line| &line.run))
    );
}

/// The runs up to the first bad line, and why that one is refused.
fn read(text: &[u8], csv: bool) -> Result<(Vec<Line>, Option<String>)> {
    let mut lines = Lines::new(Box::new(std::io::Cursor::new(text.to_vec())), csv, "f")?;
    let mut runs = Vec::new();
    loop {
        match lines.next() {
            Ok(Some(line)) => runs.push(line),
            Ok(None) => return Ok((runs, None)),
            Err(failure) => return Ok((runs, Some(failure.message))),
        }
    }
}

#[cfg(test)]
mod tests {
    use flowfleet_mutate::Driver;

    use super::*;

    #[test]
    fn batch_files() {
        let seeds = [
            "n\"a\"\n\n{\"input\": {\"x\": 1.5}, \"queue\": \"q\"}\r\n\"last\"",
            "cinput,priority,delay_s,label.team,tweak.Prompt-1.template,var.KEY\n\"a, b\nc\",high,1.5,x,Say {it},v\n,,,,,\n",
            "c\u{feff}input,max_attempts,tweak.a.b.c\r\nx,3,\"\"\"q\"\"\"\r\n",
        ];
        Driver::new("batch_file")
            .seeds(seeds)
            .cases(10_000)
            .run(batch_file);
    }
}
