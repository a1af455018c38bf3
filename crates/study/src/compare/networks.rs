use residua_graph::Shape;
use residua_resnet::{Architecture, ArchitectureOptions, Family, Shortcut};

use crate::StudyError;

/// A network of a comparison, before it is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// What it is.
    pub architecture: Architecture,
    /// Its weight decay.
    pub weight_decay: f64,
}

/// The networks of a comparison: each family at each depth, with each shortcut that it can have, and so
/// on.
#[derive(Debug, Clone, PartialEq)]
pub struct Variants {
    /// Shape of a sample.
    pub input: Shape,
    /// Number of classes.
    pub classes: usize,
    /// Whether they are fully connected, as for vectors.
    pub dense: bool,
    /// Channels of the first stage, or hidden features; the name's own if not set.
    pub width: Option<usize>,
    /// Families.
    pub families: Vec<Family>,
    /// Layers with weights.
    pub depths: Vec<usize>,
    /// Shortcuts of those that have any; their family's own if there are none.
    pub shortcuts: Vec<Shortcut>,
    /// With batch norms, without, or both.
    pub norms: Vec<bool>,
    /// Weight decays.
    pub weight_decays: Vec<f64>,
}

impl Variants {
    /// The networks: shallow ones first, so that a comparison that is cut short has whole depths.
    ///
    /// # Errors
    /// A depth, width or shortcut that there is not; pre-activation networks for vectors.
    pub fn networks(&self) -> Result<Vec<Compared>, StudyError> {
        let mut networks: Vec<Compared> = Vec::new();
        for &depth in &self.depths {
            for &family in &self.families {
                for architecture in self.of_depth(depth, family)? {
                    for &weight_decay in &self.weight_decays {
                        let network = Compared { architecture: architecture.clone(), weight_decay };
                        if !networks.contains(&network) {
                            networks.push(network);
                        }
                    }
                }
            }
        }
        Ok(networks)
    }

    fn of_depth(&self, depth: usize, family: Family) -> Result<Vec<Architecture>, StudyError> {
        let name = match (family, self.dense) {
            (Family::Plain, false) => "plain",
            (Family::Residual, false) => "resnet",
            (Family::Preact, false) => "preact-resnet",
            (Family::Plain, true) => "dense-plain",
            (Family::Residual, true) => "dense-resnet",
            (Family::Preact, true) => {
                return Err(StudyError::Unsuitable {
                    subject: "families".to_owned(),
                    got: "preact for vectors".to_owned(),
                    expected: "plain or residual".to_owned(),
                });
            }
        };
        let shortcuts: Vec<Option<Shortcut>> = match (family, &self.shortcuts[..]) {
            (Family::Plain, _) | (_, []) => vec![None],
            (_, shortcuts) => shortcuts.iter().copied().map(Some).collect(),
        };
        let mut architectures = Vec::new();
        for &norm in &self.norms {
            for &shortcut in &shortcuts {
                let (depth, norm) = (Some(depth), Some(norm));
                let options = ArchitectureOptions { depth, width: self.width, shortcut, norm };
                let (input, classes) = (self.input, self.classes);
                architectures.push(Architecture::named_with(name, input, classes, &options)?);
            }
        }
        Ok(architectures)
    }
}
