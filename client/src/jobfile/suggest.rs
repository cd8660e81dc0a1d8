//! What is said of an unknown name: the one that was meant, or those there are.

use sheaf_learn::suggest::nearest;

/// `did you mean X?`, or else the known names.
pub fn did_you_mean(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None if known.is_empty() => "there are none".into(),
        None => format!("known: {}", known.join(", ")),
    }
}

/// Letters and digits only, lower case: `maxIter`, `max_iter` and `max-iter` are one name.
pub fn folded(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_their_punctuation() {
        assert_eq!(folded("maxIter"), folded("max_iter"));
        assert_ne!(folded("maxIter"), folded("max_iters"));
    }

    #[test]
    fn a_slip_is_answered_and_a_stranger_gets_the_list() {
        assert_eq!(did_you_mean("colums", &["columns", "checks"]), "did you mean `columns`?");
        assert_eq!(did_you_mean("banana", &["columns", "checks"]), "known: columns, checks");
        assert_eq!(did_you_mean("banana", &[]), "there are none");
    }
}
