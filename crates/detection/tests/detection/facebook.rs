//! Files of DETR's authors: recognised by their names, and the same numbers as transformers' of the same weights.

use burn::tensor::{DType, Device, Tensor};
use kiln_backend::testing::devices;
use kiln_checkpoint::{Checkpoint, Contents, StoredModel};
use kiln_detection::{Detr, DetrSegmentation};

fn golden(name: &str) -> String {
    format!("{}/tests/detection/golden/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The model in the file, and what transformers computes with it.
fn case(name: &str) -> (StoredModel, Checkpoint) {
    let Contents::Model(model) = Contents::open(golden(&format!("{name}.pth"))).unwrap() else {
        panic!("{name}: no model")
    };
    (model, Checkpoint::open(golden(&format!("{name}.safetensors"))).unwrap())
}

fn pixels(reference: &Checkpoint, device: &Device) -> Tensor<4> {
    Tensor::from_data(reference.tensor("pixel_values").unwrap(), (device, DType::F32))
}

/// The largest error of `ours` as a share of the largest number of the golden.
fn error<const D: usize>(ours: Tensor<D>, reference: &Checkpoint, name: &str) -> f32 {
    let golden: Vec<f32> = reference.tensor(name).unwrap().iter::<f32>().collect();
    let ours: Vec<f32> = ours.into_data().iter::<f32>().collect();
    assert_eq!(ours.len(), golden.len(), "{name}");
    let largest = golden.iter().fold(0_f32, |most, x| most.max(x.abs()));
    ours.iter().zip(&golden).fold(0_f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

#[test]
fn boxes_from_an_authors_file_are_those_of_transformers() {
    let (model, reference) = case("facebook_boxes");
    assert_eq!(model.class().unwrap().as_deref(), Some("DetrForObjectDetection"));
    assert!(model.config.contains("learned"), "{}", model.config);
    for (backend, device) in devices() {
        let network: Detr = model.load(&device).unwrap();
        let found = network.forward(pixels(&reference, &device), None).predictions;
        for error in [error(found.logits, &reference, "logits"), error(found.boxes, &reference, "pred_boxes")]
        {
            assert!(error < 2e-5, "{backend}: {error}");
        }
    }
}

#[test]
fn masks_from_an_authors_file_are_those_of_transformers() {
    let (model, reference) = case("facebook_masks");
    assert_eq!(model.class().unwrap().as_deref(), Some("DetrForSegmentation"));
    for (backend, device) in devices() {
        let network: DetrSegmentation = model.load(&device).unwrap();
        let found = network.forward(pixels(&reference, &device), None);
        let predictions = found.detection.predictions;
        for error in [
            error(predictions.logits, &reference, "logits"),
            error(predictions.boxes, &reference, "pred_boxes"),
            error(found.masks, &reference, "pred_masks"),
        ] {
            assert!(error < 5e-5, "{backend}: {error}");
        }
    }
}

#[test]
fn a_file_that_lacks_a_layer_names_it_as_the_authors_do() {
    let whole = Checkpoint::open(golden("facebook_boxes.pth")).unwrap();
    let names: Vec<String> = whole.tensors().map(|(name, _)| name.to_owned()).collect();
    let kept = names.iter().filter(|name| *name != "transformer.decoder.layers.1.norm3.bias");
    let tensors = kept.map(|name| (name.clone(), whole.tensor(name).unwrap())).collect();
    let bytes = kiln_checkpoint::tensors_to_bytes(tensors, &std::collections::BTreeMap::new()).unwrap();
    let file = Checkpoint::from_bytes(bytes).unwrap();
    let error = kiln_checkpoint::layout::recognise(&file).unwrap_err().to_string();
    assert!(error.contains("transformer.decoder.layers.1.norm3.bias"), "{error}");
}
