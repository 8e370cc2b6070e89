//! Pictures as transformers' image processor makes them ready.

use kiln_backend::testing::devices;
use kiln_checkpoint::Checkpoint;
use kiln_detection::processor::Processor;
use kiln_picture::Picture;

#[test]
fn pictures_are_made_ready_as_transformers_does() {
    let golden = format!("{}/tests/detection/golden/processor", env!("CARGO_MANIFEST_DIR"));
    let expected = Checkpoint::open(format!("{golden}/processor.safetensors")).unwrap();
    let (_, device) = devices().next().expect("a backend");
    for (kind, size) in [
        ("usual", r#"{"size": {"shortest_edge": 32, "longest_edge": 53}}"#),
        ("exact", r#"{"size": {"height": 24, "width": 40}}"#),
    ] {
        let processor = Processor::from_json(size).unwrap();
        for name in ["wide.png", "tall.jpg", "grey.png", "palette.png"] {
            let picture = Picture::open(format!("{golden}/{name}")).unwrap();
            let ours = processor.preprocess(&picture, &device).unwrap();
            let theirs = expected.tensor(&format!("{kind}.{name}")).unwrap();
            assert_eq!(ours.dims().as_slice(), theirs.shape().as_slice(), "{kind} {name}");
            // One step of 255 over the smallest of the deviations. JPEG's colours are decoded otherwise than by Pillow, at half
            // resolution in this file: up to three steps apart where they change from pixel to pixel, as they do here.
            let steps = if name.ends_with("jpg") { 3.0 } else { 1.0 };
            let (ours, theirs) = (ours.into_data(), theirs);
            let pairs = ours.iter::<f32>().zip(theirs.iter::<f32>());
            let error = pairs.fold(0_f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(error <= steps / 255.0 / 0.224 + 1e-5, "{kind} {name}: {error}");
        }
    }
}
