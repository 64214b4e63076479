//! What to type when privileges are missing.

/// This very command line under sudo, as a shell takes it.
pub fn sudo_line() -> String {
    std::iter::once("sudo".to_owned())
        .chain(std::env::args().map(|argument| quoted(&argument)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// An argument as a shell takes it, without control characters.
fn quoted(argument: &str) -> String {
    let clean: String = argument.chars().filter(|c| !c.is_control()).collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=+:,@%".contains(c);
    if !clean.is_empty() && clean.chars().all(plain) { clean } else { format!("'{}'", clean.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn arguments_survive_the_shell() {
        assert_eq!(quoted("--for=5"), "--for=5");
        assert_eq!(quoted("my service"), "'my service'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("a\x1b[2Jb"), "'a[2Jb'");
    }
}
