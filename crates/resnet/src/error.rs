use residua_graph::GraphError;

/// Why there is no such architecture.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchitectureError {
    /// A name outside the grammar of [`Architecture::named`](crate::Architecture::named).
    #[error("no architecture is called `{name}`{}", hint(suggestion))]
    UnknownName {
        /// The name asked for.
        name: String,
        /// The nearest name there is.
        suggestion: Option<String>,
    },
    /// A property with a value it can't have.
    #[error("{architecture}: {what} is {got}, expected {expected}")]
    Invalid {
        /// The architecture's name.
        architecture: String,
        /// The property.
        what: String,
        /// Its value.
        got: String,
        /// What it could be.
        expected: String,
    },
    /// A word that is none of a list.
    #[error("{what} is `{got}`, expected {expected}")]
    UnknownWord {
        /// What it stands for.
        what: &'static str,
        /// The word.
        got: String,
        /// The words there are.
        expected: &'static str,
    },
    /// Operations that do not fit together, such as a zero-padding shortcut to fewer channels.
    #[error("{architecture}: {source}")]
    Graph {
        /// The architecture's name.
        architecture: String,
        /// The operation, and what is wrong with it.
        source: GraphError,
    },
    /// A text that is not the TOML form of an architecture.
    #[error("architecture is not valid TOML of an architecture: {0}")]
    Toml(#[from] toml::de::Error),
}

fn hint(suggestion: &Option<String>) -> String {
    match suggestion {
        Some(name) => format!("; did you mean `{name}`?"),
        None => ", expected a name such as `resnet20`, `plain56`, `preact-resnet164`, \
                 `wide-resnet28-10`, `resnet50` or `dense-resnet`"
            .to_owned(),
    }
}
