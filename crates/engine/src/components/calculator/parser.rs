//! The tree of a Python expression, as far as arithmetic needs it: what else an expression may be is only named.

use super::lexer::{Token, TokenKind, syntax, tokens};

/// What is computed, or why it is not, by the names of Python's syntax trees.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Number(f64),
    Constant(&'static str),
    Binary(&'static str, Box<(Tree, Tree)>),
    Other(&'static str),
}

/// Levels of the tree, and of what is open while it is read. Python's own limit of calls is about as deep.
const MAX_DEPTH: usize = 900;

const TOO_DEEP: &str = "Invalid expression: maximum recursion depth exceeded";

/// Words that are no names.
const KEYWORDS: [&str; 32] = [
    "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif", "else",
    "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal", "not",
    "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// Binary operators from the loosest to the tightest: their signs and Python's names.
const LEVELS: [&[(&str, &str)]; 6] = [
    &[("|", "BitOr")],
    &[("^", "BitXor")],
    &[("&", "BitAnd")],
    &[("<<", "LShift"), (">>", "RShift")],
    &[("+", "Add"), ("-", "Sub")],
    &[
        ("*", "Mult"),
        ("/", "Div"),
        ("//", "FloorDiv"),
        ("%", "Mod"),
        ("@", "MatMult"),
    ],
];

pub(super) fn parse(text: &str) -> Result<Tree, String> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens: &tokens,
        next: 0,
        depth: 0,
    };
    let (tree, _) = parser.list(false)?;
    while parser.take_kind(&TokenKind::Newline) {}
    match parser.peek() {
        TokenKind::End => Ok(tree),
        _ => parser.fail(),
    }
}

struct Parser<'t> {
    tokens: &'t [Token],
    next: usize,
    depth: usize,
}

type Parsed = Result<(Tree, usize), String>;

fn leaf(tree: Tree) -> Parsed {
    Ok((tree, 1))
}

impl Parser<'_> {
    fn token(&self) -> &Token {
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &TokenKind {
        &self.token().kind
    }

    fn fail<T>(&self) -> Result<T, String> {
        Err(syntax("invalid syntax", self.token().line))
    }

    fn take_kind(&mut self, kind: &TokenKind) -> bool {
        let found = self.peek() == kind;
        self.next += usize::from(found);
        found
    }

    fn operator(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), TokenKind::Operator(found) if *found == sign);
        self.next += usize::from(found);
        found
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), TokenKind::Name(found) if found == word)
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.operator(sign) { Ok(()) } else { self.fail() }
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(TOO_DEEP.to_owned());
        }
        let parsed = read(self);
        self.depth -= 1;
        parsed
    }

    /// Whether what follows ends a list.
    fn at_end(&self) -> bool {
        matches!(
            self.peek(),
            TokenKind::End | TokenKind::Newline | TokenKind::Operator(")" | "]" | "}")
        )
    }

    /// An expression, or several with commas: a tuple.
    fn list(&mut self, starred: bool) -> Parsed {
        let (first, depth) = self.item(starred)?;
        if !matches!(self.peek(), TokenKind::Operator(",")) {
            return Ok((first, depth));
        }
        while self.operator(",") {
            if self.at_end() {
                break;
            }
            self.item(true)?;
        }
        leaf(Tree::Other("Tuple"))
    }

    fn item(&mut self, starred: bool) -> Parsed {
        if starred && self.operator("*") {
            return self.binary(0);
        }
        self.expression()
    }

    fn expression(&mut self) -> Parsed {
        self.deeper(|parser| {
            if parser.word("lambda") {
                return parser.lambda();
            }
            let parsed = parser.or()?;
            if !parser.word("if") {
                return Ok(parsed);
            }
            parser.or()?;
            if !parser.word("else") {
                return parser.fail();
            }
            parser.expression()?;
            leaf(Tree::Other("IfExp"))
        })
    }

    fn lambda(&mut self) -> Parsed {
        while !self.operator(":") {
            let named = matches!(self.peek(), TokenKind::Name(name) if !KEYWORDS.contains(&name.as_str()));
            if named || matches!(self.peek(), TokenKind::Operator("*" | "**" | "," | "/")) {
                self.next += 1;
            } else if self.operator("=") {
                self.expression()?;
            } else {
                return self.fail();
            }
        }
        self.expression()?;
        leaf(Tree::Other("Lambda"))
    }

    fn or(&mut self) -> Parsed {
        self.chain("or", |parser| parser.chain("and", Self::not))
    }

    fn chain(&mut self, word: &str, read: impl Fn(&mut Self) -> Parsed) -> Parsed {
        let first = read(self)?;
        if !self.is_word(word) {
            return Ok(first);
        }
        while self.word(word) {
            read(self)?;
        }
        leaf(Tree::Other("BoolOp"))
    }

    fn not(&mut self) -> Parsed {
        if self.word("not") {
            self.deeper(Self::not)?;
            return leaf(Tree::Other("UnaryOp"));
        }
        let first = self.binary(0)?;
        let mut compared = false;
        while self.comparison()? {
            self.binary(0)?;
            compared = true;
        }
        if compared {
            leaf(Tree::Other("Compare"))
        } else {
            Ok(first)
        }
    }

    fn comparison(&mut self) -> Result<bool, String> {
        if ["<", ">", "==", ">=", "<=", "!="]
            .iter()
            .any(|sign| self.operator(sign))
            || self.word("in")
        {
            return Ok(true);
        }
        if self.word("is") {
            self.word("not");
            return Ok(true);
        }
        if self.word("not") {
            return if self.word("in") { Ok(true) } else { self.fail() };
        }
        Ok(false)
    }

    fn binary(&mut self, level: usize) -> Parsed {
        let Some(signs) = LEVELS.get(level) else {
            return self.unary();
        };
        let (mut left, mut depth) = self.binary(level + 1)?;
        while let Some((_, name)) = signs.iter().find(|(sign, _)| self.operator(sign)) {
            let (right, other) = self.binary(level + 1)?;
            depth = depth.max(other) + 1;
            if depth > MAX_DEPTH {
                return Err(TOO_DEEP.to_owned());
            }
            left = Tree::Binary(name, Box::new((left, right)));
        }
        Ok((left, depth))
    }

    fn unary(&mut self) -> Parsed {
        if ["+", "-", "~"].iter().any(|sign| self.operator(sign)) {
            self.deeper(Self::unary)?;
            return leaf(Tree::Other("UnaryOp"));
        }
        let awaits = self.word("await");
        let (mut base, mut depth) = self.primary()?;
        if awaits {
            (base, depth) = (Tree::Other("Await"), 1);
        }
        if !self.operator("**") {
            return Ok((base, depth));
        }
        let (power, other) = self.deeper(Self::unary)?;
        Ok((Tree::Binary("Pow", Box::new((base, power))), depth.max(other) + 1))
    }

    /// An atom and what is called, taken or looked up of it.
    fn primary(&mut self) -> Parsed {
        let mut parsed = self.atom()?;
        loop {
            if self.operator("(") {
                self.arguments()?;
                parsed = leaf(Tree::Other("Call"))?;
            } else if self.operator("[") {
                self.slices()?;
                parsed = leaf(Tree::Other("Subscript"))?;
            } else if self.operator(".") {
                match self.peek() {
                    TokenKind::Name(name) if !KEYWORDS.contains(&name.as_str()) => self.next += 1,
                    _ => return self.fail(),
                }
                parsed = leaf(Tree::Other("Attribute"))?;
            } else {
                return Ok(parsed);
            }
        }
    }

    fn arguments(&mut self) -> Result<(), String> {
        while !self.operator(")") {
            let _ = self.operator("*") || self.operator("**");
            self.expression()?;
            if self.operator("=") {
                self.expression()?;
            }
            if !self.operator(",") && !matches!(self.peek(), TokenKind::Operator(")")) {
                return self.fail();
            }
        }
        Ok(())
    }

    fn slices(&mut self) -> Result<(), String> {
        let mut any = false;
        while !self.operator("]") {
            any = true;
            if self.operator(":") || self.operator(",") {
                continue;
            }
            self.expression()?;
        }
        if any { Ok(()) } else { self.fail() }
    }

    fn atom(&mut self) -> Parsed {
        let kind = self.peek().clone();
        match kind {
            TokenKind::Number(value) => {
                self.next += 1;
                leaf(Tree::Number(value))
            }
            TokenKind::Constant(name @ ("str" | "bytes")) => self.text(name),
            TokenKind::Formatted => self.text("str"),
            TokenKind::Constant(name) => {
                self.next += 1;
                leaf(Tree::Constant(name))
            }
            TokenKind::Name(name) if !KEYWORDS.contains(&name.as_str()) => {
                self.next += 1;
                leaf(Tree::Other("Name"))
            }
            TokenKind::Operator("(") => {
                self.next += 1;
                if self.operator(")") {
                    return leaf(Tree::Other("Tuple"));
                }
                let inner = self.list(true)?;
                self.expect(")")?;
                Ok(inner)
            }
            TokenKind::Operator("[") => {
                self.next += 1;
                if !self.operator("]") {
                    self.list(true)?;
                    self.expect("]")?;
                }
                leaf(Tree::Other("List"))
            }
            TokenKind::Operator("{") => {
                self.next += 1;
                self.braces()
            }
            _ => self.fail(),
        }
    }

    /// Pieces of text side by side are one.
    fn text(&mut self, name: &'static str) -> Parsed {
        let mut formatted = false;
        loop {
            match self.peek() {
                TokenKind::Formatted => formatted = true,
                TokenKind::Constant("str" | "bytes") => {}
                _ => break,
            }
            self.next += 1;
        }
        leaf(if formatted {
            Tree::Other("JoinedStr")
        } else {
            Tree::Constant(name)
        })
    }

    fn braces(&mut self) -> Parsed {
        if self.operator("}") {
            return leaf(Tree::Other("Dict"));
        }
        let mut kind = "Set";
        while !self.operator("}") {
            if self.operator("**") {
                kind = "Dict";
                self.expression()?;
            } else {
                self.item(true)?;
                if self.operator(":") {
                    kind = "Dict";
                    self.expression()?;
                }
            }
            if !self.operator(",") && !matches!(self.peek(), TokenKind::Operator("}")) {
                return self.fail();
            }
        }
        leaf(Tree::Other(kind))
    }
}
