/// Words as a command line that can be typed again.
///
/// ```
/// assert_eq!(residua_study::shell_line(["residua", "train", "synthetic:shapes?train=9&dev=3"]),
///            "residua train 'synthetic:shapes?train=9&dev=3'");
/// ```
pub fn shell_line<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./,:=@%+".contains(c);
    let quoted = |word: T| match word.as_ref() {
        word if !word.is_empty() && word.chars().all(is_plain) => word.to_owned(),
        word => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::shell_line;

    #[test]
    fn a_command_line_can_be_typed_again() {
        assert_eq!(shell_line(["study", "a/b.tar.gz"]), "study a/b.tar.gz");
        assert_eq!(shell_line(["a b", "", "it's", "s?x&y"]), r"'a b' '' 'it'\''s' 's?x&y'");
    }
}
