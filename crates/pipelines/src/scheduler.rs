//! What all pipelines read and check alike.

use kiln_checkpoint::{Contents, StoredModel, StoredPipeline};

use crate::PipelineError;

/// The text of the pipeline's `scheduler_config.json`.
pub(crate) fn config(pipeline: &StoredPipeline) -> Result<String, PipelineError> {
    const PART: &str = "scheduler";
    if let Some(config) = pipeline.configs.get(PART) {
        return Ok(config.clone());
    }
    let folder = pipeline.folders.get(PART).ok_or(PipelineError::Part { part: PART })?;
    match Contents::open(folder)? {
        Contents::Scheduler(config) => Ok(config),
        _ => Err(PipelineError::Part { part: PART }),
    }
}

/// The control networks of a pipeline: `controlnet`, and where there are several `controlnet_1` and so on.
pub(crate) fn control_networks(pipeline: &mut StoredPipeline) -> Vec<StoredModel> {
    let numbered = (1..).map(|i| format!("controlnet_{i}"));
    let names = std::iter::once("controlnet".to_owned()).chain(numbered);
    names.map_while(|name| pipeline.models.remove(&name)).collect()
}

/// Refuses a pipeline of another class.
pub(crate) fn expect_class(pipeline: &StoredPipeline, known: &[&str]) -> Result<(), PipelineError> {
    match known.contains(&pipeline.class.as_str()) {
        true => Ok(()),
        false => Err(unknown(&pipeline.class, known)),
    }
}

/// The error for what is no pipeline at all.
pub(crate) fn no_pipeline(contents: &Contents, known: &[&str]) -> PipelineError {
    let found = match contents {
        Contents::Pipeline(pipeline) => pipeline.class.clone(),
        Contents::Model(model) => match model.class() {
            Ok(Some(class)) => class,
            _ => "network".to_owned(),
        },
        Contents::Scheduler(_) => "scheduler".to_owned(),
        Contents::Tensors(_) => "file of unknown tensors".to_owned(),
    };
    unknown(&found, known)
}

fn unknown(found: &str, known: &[&str]) -> PipelineError {
    PipelineError::Class { found: found.to_owned(), known: known.join(", ") }
}
