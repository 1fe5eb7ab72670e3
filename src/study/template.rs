//! Names of artifacts as templates: `{model}_{dataset}_{seed}:latest`. Refuses placeholders it does not know. No I/O.

use std::fmt;

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    Model,
    Dataset,
    Seed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Placeholder(Placeholder),
}

/// A name with placeholders `{model}`, `{dataset}` and `{seed}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A text that is not a template.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TemplateError {
    /// A placeholder of another name.
    #[error("`{{{name}}}` is not a placeholder; there are {{model}}, {{dataset}} and {{seed}}")]
    UnknownPlaceholder {
        /// What stands between the braces.
        name: String,
    },
    /// A brace without its partner.
    #[error("a brace without its partner in `{text}`")]
    UnbalancedBrace {
        /// The template.
        text: String,
    },
    /// Nothing at all.
    #[error("a name template is empty")]
    Empty,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// [`TemplateError`] when a brace has no partner or a placeholder is unknown.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        let unbalanced = || TemplateError::UnbalancedBrace { text: text.to_owned() };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            if before.contains('}') {
                return Err(unbalanced());
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let (name, tail) = after.split_once('}').ok_or_else(unbalanced)?;
            parts.push(Part::Placeholder(match name {
                "model" => Placeholder::Model,
                "dataset" => Placeholder::Dataset,
                "seed" => Placeholder::Seed,
                _ => return Err(TemplateError::UnknownPlaceholder { name: name.to_owned() }),
            }));
            rest = tail;
        }
        if rest.contains('}') {
            return Err(unbalanced());
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// Whether the name depends on the model.
    pub fn has_model(&self) -> bool {
        self.has(Placeholder::Model)
    }

    /// Whether the name depends on the dataset.
    pub fn has_dataset(&self) -> bool {
        self.has(Placeholder::Dataset)
    }

    /// Whether the name depends on the seed.
    pub fn has_seed(&self) -> bool {
        self.has(Placeholder::Seed)
    }

    fn has(&self, wanted: Placeholder) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Placeholder(found) if *found == wanted))
    }

    /// The name of one artifact.
    pub fn render(&self, model: &str, dataset: &str, seed: u64) -> String {
        let mut name = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Placeholder(Placeholder::Model) => name.push_str(model),
                Part::Placeholder(Placeholder::Dataset) => name.push_str(dataset),
                Part::Placeholder(Placeholder::Seed) => name.push_str(&seed.to_string()),
            }
        }
        name
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => f.write_str(text)?,
                Part::Placeholder(Placeholder::Model) => f.write_str("{model}")?,
                Part::Placeholder(Placeholder::Dataset) => f.write_str("{dataset}")?,
                Part::Placeholder(Placeholder::Seed) => f.write_str("{seed}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_the_notebook() {
        let template = Template::parse("{model}_{dataset}_{seed}:latest").unwrap();
        assert_eq!(template.render("ViT-B-16", "CIFAR100", 7), "ViT-B-16_CIFAR100_7:latest");
        assert!(template.has_model() && template.has_dataset() && template.has_seed());
        let pretrained = Template::parse("{model}_pt:latest").unwrap();
        assert!(pretrained.has_model() && !pretrained.has_dataset() && !pretrained.has_seed());
    }

    #[test]
    fn what_is_not_a_template() {
        for text in ["{model", "model}", "a}b{model}", "{seed}}"] {
            assert!(matches!(Template::parse(text), Err(TemplateError::UnbalancedBrace { .. })), "{text}");
        }
        assert_eq!(
            Template::parse("{modell}_pt"),
            Err(TemplateError::UnknownPlaceholder { name: "modell".to_owned() })
        );
        assert_eq!(Template::parse(""), Err(TemplateError::Empty));
    }

    proptest! {
        #[test]
        fn any_text_parses_to_itself_or_is_refused(text in ".{0,40}") {
            if let Ok(template) = Template::parse(&text) {
                prop_assert_eq!(template.to_string(), text);
            }
        }
    }
}
