//! What v0 mangled names say and demangled ones leave out: whether a path runs through an impl of a type, an impl of a
//! trait or a trait itself, and in which module the impl stands. Only the beginning of a name is looked at; the grammar
//! is RFC 2603's.

/// An impl at the root of a mangled path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Impl {
    pub(super) kind: ImplKind,
    /// Path of the module the impl stands in, from its crate; empty for a trait's own items.
    pub(super) module: Vec<String>,
    /// The same of the implementing type, where that is a path through an impl itself.
    pub(super) subject: Option<Box<Impl>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ImplKind {
    /// `impl Type`
    Inherent,
    /// `impl Trait for Type`
    Trait,
    /// An item that the trait itself provides.
    Provided,
}

/// Nested impls looked through.
const DEEPEST: usize = 16;

/// The impl that the path of a mangled function runs through; `None` for free functions and other manglings.
pub(super) fn impl_of(mangled: &str) -> Option<Impl> {
    let rest = mangled.strip_prefix("_R")?;
    mangled.is_ascii().then(|| Cursor(rest.as_bytes()).root(0))?
}

struct Cursor<'m>(&'m [u8]);

impl Cursor<'_> {
    /// Walks down to where the path begins: a path is written after what it is part of.
    fn root(&mut self, depth: usize) -> Option<Impl> {
        if depth > DEEPEST {
            return None;
        }
        loop {
            let kind = match self.next()? {
                // A nested item: one more letter is its namespace.
                b'N' => {
                    self.next()?;
                    continue;
                }
                // Generic arguments follow the path they belong to.
                b'I' => continue,
                b'M' => ImplKind::Inherent,
                b'X' => ImplKind::Trait,
                b'Y' => ImplKind::Provided,
                _ => return None,
            };
            let module = if kind == ImplKind::Provided { Vec::new() } else { self.impl_path()? };
            return Some(Impl { kind, module, subject: self.root(depth + 1).map(Box::new) });
        }
    }

    fn impl_path(&mut self) -> Option<Vec<String>> {
        self.disambiguator()?;
        self.module(0)
    }

    /// A path of crate and modules; impls inside of functions count as standing in the function.
    fn module(&mut self, depth: usize) -> Option<Vec<String>> {
        if depth > DEEPEST {
            return None;
        }
        match self.next()? {
            b'C' => {
                self.disambiguator()?;
                Some(vec![self.identifier()?])
            }
            b'N' => {
                self.next()?;
                let mut path = self.module(depth + 1)?;
                self.disambiguator()?;
                path.push(self.identifier()?);
                Some(path)
            }
            _ => None,
        }
    }

    /// `s` and a number in base 62, ended by `_`.
    fn disambiguator(&mut self) -> Option<()> {
        if self.0.first() == Some(&b's') {
            while self.next()? != b'_' {}
        }
        Some(())
    }

    fn identifier(&mut self) -> Option<String> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let length: usize = std::str::from_utf8(&self.0[..digits]).ok()?.parse().ok()?;
        self.0 = &self.0[digits..];
        // Separates the length from a name that begins with a digit or an underscore.
        if self.0.first() == Some(&b'_') {
            self.0 = &self.0[1..];
        }
        let (name, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(String::from_utf8_lossy(name).into_owned())
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
}
