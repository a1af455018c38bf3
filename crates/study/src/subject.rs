use residua_format::Model;

/// A model that is studied beside others.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The model.
    pub model: &'a Model,
}
