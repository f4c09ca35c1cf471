//! The words of a Python expression.

/// One word, and the line on which it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) line: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    Number(f64),
    /// A constant that is no real number, by the name of its type.
    Constant(&'static str),
    /// Text with replacement fields.
    Formatted,
    Name(String),
    Operator(&'static str),
    /// Outside of brackets.
    Newline,
    End,
}

/// Longest first.
const OPERATORS: [&str; 43] = [
    "**=", "//=", ">>=", "<<=", "...", "!=", "->", ":=", "**", "//", "<<", ">>", "<=", ">=", "==", "+=",
    "-=", "*=", "/=", "%=", "@=", "&=", "|=", "^=", "+", "-", "*", "/", "%", "@", "&", "|", "^", "~", "<",
    ">", "=", ",", ":", ".", ";", "!", "$",
];

pub(super) fn syntax(what: &str, line: usize) -> String {
    format!("Invalid expression: {what} (<unknown>, line {line})")
}

struct Lexer<'t> {
    rest: &'t str,
    line: usize,
    /// Brackets that are open, with their lines.
    open: Vec<(char, usize)>,
    tokens: Vec<Token>,
}

/// Python refuses deeper ones as well.
const MAX_BRACKETS: usize = 200;

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    if text.is_empty() {
        return Err(syntax("invalid syntax", 0));
    }
    let mut lexer = Lexer {
        rest: text,
        line: 1,
        open: Vec::new(),
        tokens: Vec::new(),
    };
    lexer.refuse_indent()?;
    while lexer.next()? {}
    // Nothing but blank lines: the fault is on the last one.
    if lexer.tokens.is_empty() && text.ends_with('\n') {
        lexer.line -= 1;
    }
    if let Some((bracket, line)) = lexer.open.last() {
        return Err(syntax(&format!("'{bracket}' was never closed"), *line));
    }
    lexer.push(TokenKind::End);
    Ok(lexer.tokens)
}

fn closing(bracket: char) -> char {
    match bracket {
        '(' => ')',
        '[' => ']',
        _ => '}',
    }
}

impl<'t> Lexer<'t> {
    fn push(&mut self, kind: TokenKind) {
        let line = self.line;
        self.tokens.push(Token { kind, line });
    }

    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }

    fn fail<T>(&self, what: &str) -> Result<T, String> {
        Err(syntax(what, self.line))
    }

    /// A line must not begin with blanks, unless it is a comment.
    fn refuse_indent(&self) -> Result<(), String> {
        let line = self.rest.trim_start_matches([' ', '\t']);
        match line.len() == self.rest.len() || line.starts_with(['\n', '\r', '#', '\u{c}']) {
            true => Ok(()),
            false => self.fail("unexpected indent"),
        }
    }

    /// Reads one word; false at the end.
    fn next(&mut self) -> Result<bool, String> {
        let Some(first) = self.rest.chars().next() else {
            return Ok(false);
        };
        match first {
            ' ' | '\t' | '\u{c}' | '\r' => drop(self.take(1)),
            '\n' => {
                self.take(1);
                if self.open.is_empty() && self.tokens.last().is_some_and(|t| t.kind != TokenKind::Newline) {
                    self.push(TokenKind::Newline);
                }
                self.line += 1;
                if self.open.is_empty() {
                    self.refuse_indent()?;
                }
            }
            '#' => drop(self.take(self.rest.find('\n').unwrap_or(self.rest.len()))),
            '(' | '[' | '{' => {
                self.take(1);
                if self.open.len() >= MAX_BRACKETS {
                    return self.fail("too many nested parentheses");
                }
                self.push(TokenKind::Operator(bracket(first)));
                self.open.push((first, self.line));
            }
            ')' | ']' | '}' => {
                self.take(1);
                match self.open.pop() {
                    None => return self.fail(&format!("unmatched '{first}'")),
                    Some((open, _)) if closing(open) != first => {
                        let what = format!(
                            "closing parenthesis '{first}' does not match opening parenthesis '{open}'"
                        );
                        return self.fail(&what);
                    }
                    Some(_) => self.push(TokenKind::Operator(bracket(first))),
                }
            }
            '\'' | '"' => self.string("")?,
            c if c.is_ascii_digit() => self.number()?,
            '.' if self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
            c if c == '_' || c.is_alphabetic() => self.name()?,
            _ => self.operator(first)?,
        }
        Ok(true)
    }

    fn operator(&mut self, first: char) -> Result<(), String> {
        let Some(found) = OPERATORS
            .iter()
            .find(|operator| self.rest.starts_with(**operator))
        else {
            if first.is_ascii() {
                return self.fail("invalid syntax");
            }
            return self.fail(&format!(
                "invalid character '{first}' (U+{:04X})",
                u32::from(first)
            ));
        };
        self.take(found.len());
        self.push(match *found {
            "..." => TokenKind::Constant("ellipsis"),
            found => TokenKind::Operator(found),
        });
        Ok(())
    }

    fn name(&mut self) -> Result<(), String> {
        let end = self.rest.find(|c: char| c != '_' && !c.is_alphanumeric());
        let end = end.unwrap_or(self.rest.len());
        let prefix = self.rest[..end].to_ascii_lowercase();
        let is_prefix = matches!(prefix.as_str(), "b" | "r" | "u" | "f" | "br" | "rb" | "fr" | "rf");
        let name = self.take(end);
        if is_prefix && self.rest.starts_with(['\'', '"']) {
            return self.string(&prefix);
        }
        self.push(match name {
            "True" => TokenKind::Number(1.0),
            "False" => TokenKind::Number(0.0),
            "None" => TokenKind::Constant("NoneType"),
            name => TokenKind::Name(name.to_owned()),
        });
        Ok(())
    }

    fn string(&mut self, prefix: &str) -> Result<(), String> {
        let kind = if prefix.contains('f') {
            TokenKind::Formatted
        } else if prefix.contains('b') {
            TokenKind::Constant("bytes")
        } else {
            TokenKind::Constant("str")
        };
        let triple = self.rest.starts_with("'''") || self.rest.starts_with("\"\"\"");
        let quote = self.take(if triple { 3 } else { 1 });
        let began = self.line;
        loop {
            let unterminated = |line: usize| {
                let what = if triple {
                    "unterminated triple-quoted string literal"
                } else {
                    "unterminated string literal"
                };
                syntax(&format!("{what} (detected at line {line})"), began)
            };
            match self.rest.chars().next() {
                None => return Err(unterminated(self.line)),
                Some('\n') if !triple => return Err(unterminated(self.line)),
                Some('\\') => {
                    self.take(1);
                    if let Some(c) = self.rest.chars().next() {
                        self.line += usize::from(c == '\n');
                        self.take(c.len_utf8());
                    }
                }
                Some(_) if self.rest.starts_with(quote) => {
                    self.take(quote.len());
                    self.push(kind);
                    return Ok(());
                }
                Some(c) => {
                    self.line += usize::from(c == '\n');
                    self.take(c.len_utf8());
                }
            }
        }
    }

    fn number(&mut self) -> Result<(), String> {
        for (prefix, base, name) in [("0x", 16, "hexadecimal"), ("0o", 8, "octal"), ("0b", 2, "binary")] {
            if self
                .rest
                .get(..2)
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            {
                self.take(2);
                return self.whole(base, name);
            }
        }
        let before = self.digits()?;
        let mut text = before.clone();
        let mut is_float = false;
        if self.rest.starts_with('.') {
            self.take(1);
            is_float = true;
            text.push('.');
            text.push_str(&self.digits()?);
        }
        if self.rest.starts_with(['e', 'E']) {
            let after = self.rest[1..].trim_start_matches(['+', '-']);
            let signs = self.rest.len() - 1 - after.len();
            if signs > 1 || !after.starts_with(|c: char| c.is_ascii_digit()) {
                return self.fail("invalid decimal literal");
            }
            is_float = true;
            text.push_str(self.take(1 + signs));
            text.push_str(&self.digits()?);
        }
        if self.rest.starts_with(['j', 'J']) {
            self.take(1);
            self.push(TokenKind::Constant("complex"));
            return Ok(());
        }
        if self
            .rest
            .starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
        {
            return self.fail("invalid decimal literal");
        }
        if !is_float
            && before.len() > 1
            && before.starts_with('0')
            && before.bytes().any(|digit| digit != b'0')
        {
            return self.fail(
                "leading zeros in decimal integer literals are not permitted; use an 0o prefix for octal integers",
            );
        }
        let value: f64 = text.parse().unwrap_or(f64::NAN);
        self.real(value, is_float)
    }

    /// Digits, with underscores between them.
    fn digits(&mut self) -> Result<String, String> {
        let end = self.rest.find(|c: char| c != '_' && !c.is_ascii_digit());
        let taken = self.take(end.unwrap_or(self.rest.len()));
        if taken.starts_with('_') || taken.ends_with('_') || taken.contains("__") {
            return self.fail("invalid decimal literal");
        }
        Ok(taken.replace('_', ""))
    }

    fn whole(&mut self, base: u32, name: &str) -> Result<(), String> {
        let end = self.rest.find(|c: char| c != '_' && !c.is_alphanumeric());
        let taken = self.take(end.unwrap_or(self.rest.len()));
        let digits = taken.strip_prefix('_').unwrap_or(taken);
        if digits.is_empty() || digits.contains("__") || digits.ends_with('_') {
            return self.fail(&format!("invalid {name} literal"));
        }
        let mut value = 0.0_f64;
        for (place, c) in digits.chars().filter(|c| *c != '_').enumerate() {
            match c.to_digit(base) {
                Some(digit) => value = value.mul_add(f64::from(base), f64::from(digit)),
                None if place > 0 && c.is_ascii_digit() => {
                    return self.fail(&format!("invalid digit '{c}' in {name} literal"));
                }
                None => return self.fail(&format!("invalid {name} literal")),
            }
        }
        self.real(value, false)
    }

    fn real(&mut self, value: f64, is_float: bool) -> Result<(), String> {
        if value.is_infinite() && !is_float {
            return Err("Invalid expression: int too large to convert to float".to_owned());
        }
        self.push(TokenKind::Number(value));
        Ok(())
    }
}

fn bracket(c: char) -> &'static str {
    match c {
        '(' => "(",
        ')' => ")",
        '[' => "[",
        ']' => "]",
        '{' => "{",
        _ => "}",
    }
}
