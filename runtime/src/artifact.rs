//! A model as an artifact: fitted features and weights in one document, named by the hash of its
//! content. Times, ids, metrics and reports stand beside it and are not hashed.

use serde::{Deserialize, Serialize};
use sheaf_dataflow::pipeline::Pipeline;
use sheaf_learn::model::Model;

use crate::documents::Documents;
use crate::fault::Fault;
use crate::{FORMAT_VERSION, NUMERIC_VERSION, canonical};

/// Features and model, complete enough to score prepared rows anywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// Version of this format.
    pub format_version: u32,
    /// Version of the arithmetic that made it.
    pub numeric_version: u32,
    /// Fitted features, schema and target.
    pub pipeline: Pipeline,
    /// Weights.
    pub model: Model,
}

impl Artifact {
    /// An artifact of this build.
    pub fn new(pipeline: Pipeline, model: Model) -> Self {
        Self { format_version: FORMAT_VERSION, numeric_version: NUMERIC_VERSION, pipeline, model }
    }

    /// The model hash: SHA-256 of the canonical JSON (floats by their bits).
    pub fn sha256(&self) -> Result<String, Fault> {
        canonical::hash(self).map_err(|e| Fault::internal(format!("hash the model: {e}")))
    }

    /// Reads the artifact that a record points to and checks its hash.
    pub async fn load(documents: &Documents, document: &str, sha256: &str) -> Result<Self, Fault> {
        let artifact: Artifact = documents.get(document).await?;
        if artifact.format_version != FORMAT_VERSION {
            return Err(Fault::internal(format!(
                "the model has format {}; this build reads format {FORMAT_VERSION}",
                artifact.format_version
            )));
        }
        let found = artifact.sha256()?;
        if found != sha256 {
            return Err(Fault::internal(format!("the model is damaged: its content has hash {found}, its record says {sha256}")));
        }
        Ok(artifact)
    }
}
