//! Data sets: IDX files made here, folders of pictures made here, and the order of drawing.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use kiln_picture::{Channels, Filter, Picture, PictureError};
use kiln_training::data::{DataError, FolderOptions, OpenOptions, Pictures, Shuffle, Split};
use rstest::rstest;
use tempfile::TempDir;

const TRAIN_PICTURES: &str = "train-images-idx3-ubyte";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";

fn idx(dimensions: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
    bytes.extend(dimensions.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(values);
    bytes
}

/// Three pictures of 2 x 3 (height x width).
fn pictures_file() -> Vec<u8> {
    idx(&[3, 2, 3], &(0..18).map(|i| i * 15).collect::<Vec<u8>>())
}

fn labels_file() -> Vec<u8> {
    idx(&[3], &[4, 0, 2])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn check_the_three(pictures: &Pictures) {
    assert_eq!(pictures.shape(), [3, 1, 2, 3]);
    assert_eq!((pictures.len(), pictures.channels(), pictures.height(), pictures.width()), (3, 1, 2, 3));
    assert_eq!(pictures.sample(1), [90, 105, 120, 135, 150, 165]);
    assert_eq!(pictures.labels(), Some(&[4, 0, 2][..]));
    assert_eq!(pictures.class_names(), ["0", "1", "2", "3", "4"]);
}

#[rstest]
#[case::plain(TRAIN_PICTURES, TRAIN_LABELS)]
#[case::named_gz("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")]
#[case::dotted("train-images.idx3-ubyte", "train-labels.idx1-ubyte")]
#[case::one_gz(TRAIN_PICTURES, "train-labels-idx1-ubyte.gz")]
fn idx_comes_from_a_folder_or_a_file(
    #[case] pictures: &str,
    #[case] labels: &str,
    // Packed or not is told by content, whatever the name says.
    #[values(false, true)] pictures_packed: bool,
    #[values(false, true)] labels_packed: bool,
) {
    let pack = |bytes: Vec<u8>, packed| if packed { gzip(&bytes) } else { bytes };
    let (picture_bytes, label_bytes) =
        (pack(pictures_file(), pictures_packed), pack(labels_file(), labels_packed));
    let folder = folder(&[(pictures, &picture_bytes), (labels, &label_bytes)]);
    check_the_three(&Pictures::idx(folder.path(), Split::Train).unwrap());
    check_the_three(&Pictures::idx(folder.path().join(pictures), Split::Train).unwrap());
    check_the_three(&Pictures::open(folder.path(), &OpenOptions::default()).unwrap());
    check_the_three(&Pictures::open(folder.path().join(pictures), &OpenOptions::default()).unwrap());
}

#[test]
fn the_split_chooses_the_pair() {
    let test_pictures = idx(&[1, 1, 1], &[9]);
    let test_labels = idx(&[1], &[1]);
    let folder = folder(&[
        (TRAIN_PICTURES, &pictures_file()),
        (TRAIN_LABELS, &labels_file()),
        ("t10k-images-idx3-ubyte", &test_pictures),
        ("t10k-labels-idx1-ubyte", &test_labels),
    ]);
    check_the_three(&Pictures::idx(folder.path(), Split::Train).unwrap());
    let test = Pictures::idx(folder.path(), Split::Test).unwrap();
    assert_eq!((test.shape(), test.labels()), ([1, 1, 1, 1], Some(&[1][..])));
    // A file is what it is, whatever split is asked for.
    check_the_three(&Pictures::idx(folder.path().join(TRAIN_PICTURES), Split::Test).unwrap());
    let options = OpenOptions { split: Split::Test, ..OpenOptions::default() };
    assert_eq!(Pictures::open(folder.path(), &options).unwrap(), test);
}

#[test]
fn labels_may_be_missing() {
    let folder = folder(&[(TRAIN_PICTURES, &pictures_file()), ("other-name", &pictures_file())]);
    for path in [folder.path().to_owned(), folder.path().join("other-name")] {
        let pictures = Pictures::idx(path, Split::Train).unwrap();
        assert_eq!(pictures.labels(), None);
        assert!(pictures.class_names().is_empty());
        assert_eq!(pictures.batch(&[0]).labels, None);
    }
}

fn idx_error(pictures: &[u8]) -> DataError {
    let folder = folder(&[(TRAIN_PICTURES, pictures)]);
    let error = Pictures::idx(folder.path(), Split::Train).unwrap_err();
    assert!(error.to_string().contains(TRAIN_PICTURES), "{error} names no file");
    assert!(!error.to_string().contains('\n'), "{error} is more than a line");
    error
}

#[rstest]
fn a_file_cut_short_says_how_much_is_missing(#[values(4, 9, 15, 16, 20, 33)] length: usize) {
    let whole = pictures_file();
    assert_eq!(whole.len(), 34);
    let found_at = length as u64;
    // Within the header, only the header's own length is known.
    let expected_at = if length < 16 { 16 } else { 34 };
    for bytes in [whole[..length].to_vec(), gzip(&whole[..length])] {
        let error = idx_error(&bytes);
        let DataError::CutShort { expected, found, .. } = error else { panic!("{length}: {error}") };
        assert_eq!((expected, found), (expected_at, found_at));
    }
}

#[test]
fn a_gzip_stream_cut_short_is_an_error_at_every_length() {
    let packed = gzip(&pictures_file());
    for length in 0..packed.len() {
        let error = idx_error(&packed[..length]);
        let expected = matches!(
            error,
            DataError::CutShort { .. } | DataError::WrongMagic { .. } | DataError::Gzip { .. }
        );
        assert!(expected, "{length} of {}: {error}", packed.len());
    }
}

#[test]
fn a_broken_gzip_stream_is_an_error() {
    let mut packed = gzip(&pictures_file());
    packed[10..20].fill(0xff);
    assert!(matches!(idx_error(&packed), DataError::Gzip { .. }));
}

#[test]
fn wrong_magic_says_what_stands_there() {
    // Labels in place of pictures, floats in place of bytes, no IDX at all, nothing at all.
    let mut floats = pictures_file();
    floats[2] = 0x0d;
    for bytes in [labels_file(), floats, b"\x89PNG\r\n\x1a\n........".to_vec(), vec![0, 0], vec![]] {
        let error = idx_error(&bytes);
        let DataError::WrongMagic { what, expected, found, .. } = error else { panic!("{error}") };
        assert_eq!((what, expected), ("pictures", [0, 0, 8, 3]));
        assert_eq!(found, bytes[..bytes.len().min(4)]);
    }
    let folder = folder(&[(TRAIN_PICTURES, &pictures_file()), (TRAIN_LABELS, &pictures_file())]);
    let error = Pictures::idx(folder.path(), Split::Train).unwrap_err();
    assert!(matches!(error, DataError::WrongMagic { what: "labels", .. }), "{error}");
    assert!(error.to_string().contains(TRAIN_LABELS), "{error}");
}

#[test]
fn what_follows_the_pictures_is_an_error() {
    let mut long = pictures_file();
    long.push(0);
    for bytes in [gzip(&long), long] {
        assert!(matches!(idx_error(&bytes), DataError::TrailingBytes { expected: 34, .. }));
    }
}

/// Were memory taken as the header says, these would end the process.
#[test]
fn a_header_of_enormous_sizes_takes_no_memory() {
    let error = idx_error(&idx(&[u32::MAX, u32::MAX, u32::MAX], &[0; 8]));
    assert!(matches!(error, DataError::SizeOverflow { .. }), "{error}");
    let error = idx_error(&idx(&[u32::MAX, u32::MAX, 1], &[0; 8]));
    assert!(matches!(error, DataError::SizeOverflow { .. }), "{error}");
    // 2^40 bytes: possible, but they are not there.
    for bytes in
        [idx(&[1 << 20, 1 << 10, 1 << 10], &[7; 8]), gzip(&idx(&[1 << 20, 1 << 10, 1 << 10], &[7; 8]))]
    {
        let error = idx_error(&bytes);
        assert!(
            matches!(error, DataError::CutShort { expected, found: 24, .. } if expected == (1 << 40) + 16),
            "{error}"
        );
    }
}

#[test]
fn a_data_set_without_pictures_is_an_error() {
    for sizes in [[0, 2, 3], [3, 0, 3], [3, 2, 0]] {
        assert!(matches!(idx_error(&idx(&sizes, &[])), DataError::Empty { .. }));
    }
}

#[test]
fn pictures_and_labels_must_be_equally_many() {
    let folder = folder(&[(TRAIN_PICTURES, &pictures_file()), (TRAIN_LABELS, &idx(&[2], &[0, 1]))]);
    let error = Pictures::idx(folder.path(), Split::Train).unwrap_err();
    assert!(matches!(error, DataError::CountMismatch { pictures: 3, labels: 2, .. }), "{error}");
    assert!(
        error.to_string().contains(TRAIN_LABELS) && error.to_string().contains(TRAIN_PICTURES),
        "{error}"
    );
}

#[test]
fn paths_that_hold_no_data_set_are_errors() {
    let empty = folder(&[("notes.txt", b"nothing to see")]);
    let missing = empty.path().join("missing");
    let options = OpenOptions::default();
    assert!(matches!(Pictures::idx(&missing, Split::Train), Err(DataError::Read { .. })));
    assert!(matches!(Pictures::open(&missing, &options), Err(DataError::Read { .. })));
    assert!(matches!(Pictures::folder(&missing, &options.folder), Err(DataError::Read { .. })));
    assert!(matches!(Pictures::idx(empty.path(), Split::Train), Err(DataError::NothingFound { .. })));
    let error = Pictures::open(empty.path(), &options).unwrap_err();
    assert!(error.to_string().contains(TRAIN_PICTURES), "{error}");
    assert!(matches!(Pictures::folder(empty.path(), &options.folder), Err(DataError::Empty { .. })));
    // A file that is no IDX.
    let error = Pictures::open(empty.path().join("notes.txt"), &options).unwrap_err();
    assert!(matches!(error, DataError::WrongMagic { .. }), "{error}");
}

/// One colour all over.
fn plain(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    let samples = colour.repeat((width * height) as usize);
    Picture::new(width, height, Channels::Rgb, samples).unwrap().encode_png()
}

fn options(size: u32, channels: Channels) -> FolderOptions {
    FolderOptions { size, channels, filter: Filter::Bilinear }
}

#[test]
fn subfolders_are_classes_in_the_order_of_their_names() {
    let folder = folder(&[
        ("dogs/b.png", &plain(4, 2, [40, 50, 60])),
        ("dogs/a.PNG", &plain(2, 9, [10, 20, 30])),
        ("cats/z.png", &plain(3, 3, [70, 80, 90])),
        ("cats/notes.txt", b"passed over"),
        ("cats/.hidden.png", b"passed over"),
        (".cache/x.png", b"passed over"),
        ("readme.md", b"passed over"),
    ]);
    let pictures = Pictures::folder(folder.path(), &options(2, Channels::Rgb)).unwrap();
    assert_eq!(pictures.shape(), [3, 3, 2, 2]);
    assert_eq!(pictures.class_names(), ["cats", "dogs"]);
    assert_eq!(pictures.labels(), Some(&[0, 1, 1][..]));
    // One plane a channel.
    assert_eq!(pictures.sample(0), [70, 70, 70, 70, 80, 80, 80, 80, 90, 90, 90, 90]);
    assert_eq!(pictures.sample(1), [10, 10, 10, 10, 20, 20, 20, 20, 30, 30, 30, 30]);
    assert_eq!(pictures.sample(2), [40, 40, 40, 40, 50, 50, 50, 50, 60, 60, 60, 60]);
    let opened = OpenOptions { folder: options(2, Channels::Rgb), ..OpenOptions::default() };
    assert_eq!(Pictures::open(folder.path(), &opened).unwrap(), pictures);
}

#[test]
fn pictures_without_subfolders_have_no_class() {
    let ramp: Vec<u8> = (0..24).map(|i| i * 10).collect();
    let wide = Picture::new(6, 4, Channels::Grey, ramp).unwrap();
    let folder =
        folder(&[("b.png", &wide.encode_png()), ("a.png", &plain(1, 1, [255; 3])), ("empty/notes.txt", b"")]);
    let pictures = Pictures::folder(folder.path(), &options(4, Channels::Grey)).unwrap();
    assert_eq!(pictures.labels(), None);
    assert_eq!(pictures.sample(0), [255; 16]);
    assert_eq!(pictures.sample(1), wide.crop(1, 0, 4, 4).unwrap().samples());
    assert_eq!(pictures.picture(1), wide.crop(1, 0, 4, 4).unwrap());
}

/// `picture` undoes what `folder` did to the order of samples.
#[rstest]
fn pictures_come_back_with_their_channels_innermost(
    #[values(Channels::Grey, Channels::GreyAlpha, Channels::Rgb, Channels::Rgba)] channels: Channels,
) {
    let samples = (0..3 * 3 * channels.count()).map(|i| 100 + i as u8).collect();
    let picture = Picture::new(3, 3, channels, samples).unwrap();
    let folder = folder(&[("a.png", &picture.encode_png())]);
    let pictures = Pictures::folder(folder.path(), &options(3, channels)).unwrap();
    assert_eq!(pictures.picture(0), picture);
}

#[test]
fn broken_pictures_are_counted_and_the_first_is_named() {
    let good = plain(3, 3, [1, 2, 3]);
    let folder = folder(&[
        ("a/1.png", &good),
        ("a/2.png", &good[..good.len() / 2]),
        ("a/3.jpg", b"no picture"),
        ("b/4.webp", b""),
        ("b/5.png", &good),
    ]);
    let error = Pictures::folder(folder.path(), &options(2, Channels::Rgb)).unwrap_err();
    let message = error.to_string();
    let DataError::BrokenPictures { first, broken: 3, total: 5 } = error else { panic!("{message}") };
    assert_eq!(first.path(), Some(folder.path().join("a").join("2.png").as_path()));
    assert!(matches!(first.reason(), PictureError::Malformed { .. }));
    assert!(message.contains("2.png") && message.contains("3 of 5"), "{message}");
}

#[test]
fn folders_whose_classes_are_not_clear_are_errors() {
    let picture = plain(1, 1, [0; 3]);
    let mixed = folder(&[("a.png", &picture), ("class/b.png", &picture)]);
    let error = Pictures::folder(mixed.path(), &FolderOptions::default()).unwrap_err();
    assert!(matches!(&error, DataError::MixedFolder { class, .. } if class == "class"), "{error}");

    let gap = folder(&[("a/a.png", &picture), ("b/notes.txt", b""), ("c/c.png", &picture)]);
    let error = Pictures::folder(gap.path(), &FolderOptions::default()).unwrap_err();
    assert!(matches!(&error, DataError::EmptyClass { path } if path.ends_with("b")), "{error}");
}

#[rstest]
fn sizes_out_of_range_are_errors(#[values(0, 16_385, u32::MAX)] size: u32) {
    let folder = folder(&[("a.png", &plain(1, 1, [0; 3]))]);
    let error = Pictures::folder(folder.path(), &options(size, Channels::Rgb)).unwrap_err();
    assert!(matches!(error, DataError::Size { .. }), "{error}");
}

#[test]
fn parts_that_do_not_fit_together_are_errors() {
    let inconsistent = |result| matches!(result, Err(DataError::Inconsistent { .. }));
    assert!(inconsistent(Pictures::new([2, 1, 2, 2], vec![0; 7])));
    assert!(inconsistent(Pictures::new([0, 1, 2, 2], vec![])));
    assert!(inconsistent(Pictures::new([1, 5, 1, 1], vec![0; 5])));
    assert!(inconsistent(Pictures::new([usize::MAX, 2, 1, 1], vec![])));
    let pictures = || Pictures::new([2, 1, 1, 1], vec![0; 2]).unwrap();
    assert!(inconsistent(pictures().with_labels(vec![0], vec!["a".into()])));
    assert!(inconsistent(pictures().with_labels(vec![0, 1], vec!["a".into()])));
    assert!(pictures().with_labels(vec![0, 0], vec!["a".into()]).is_ok());
}

#[test]
fn a_batch_is_scaled_to_minus_one_and_one() {
    let pictures = Pictures::new([3, 1, 1, 2], vec![0, 255, 51, 204, 127, 128]).unwrap();
    let pictures = pictures.with_labels(vec![2, 0, 1], ["a", "b", "c"].map(String::from).to_vec()).unwrap();
    let batch = pictures.batch(&[2, 0, 2, 1]);
    assert_eq!(batch.shape, [4, 1, 1, 2]);
    assert_eq!(batch.labels, Some(vec![1, 2, 1, 0]));
    let half_level = 0.5 / 127.5;
    let expected = [-half_level, half_level, -1.0, 1.0, -half_level, half_level, -0.6, 0.6];
    for (found, expected) in batch.pixels.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
    assert_eq!(batch.pixels[2..4], [-1.0, 1.0], "the ends are exact");
}

#[test]
#[should_panic(expected = "picture 3 of a data set of 3")]
fn an_index_beyond_the_data_set_panics() {
    let _ = Pictures::new([3, 1, 1, 1], vec![0; 3]).unwrap().batch(&[3]);
}

/// The digits that the program's own model is trained on.
#[test]
fn the_demo_digits_are_whole() {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kiln/data/mnist");
    let train = Pictures::open(&path, &OpenOptions::default()).unwrap();
    let test = Pictures::idx(&path, Split::Test).unwrap();
    assert_eq!((train.shape(), test.shape()), ([9000, 1, 28, 28], [1000, 1, 28, 28]));
    for digits in [&train, &test] {
        assert_eq!(digits.class_names().len(), 10);
        // Light on dark: a digit covers less than half, and its frame is black.
        let mean = digits.batch(&(0..1000).collect::<Vec<_>>()).pixels.iter().sum::<f32>() / 784_000.0;
        assert!((-0.8..-0.7).contains(&mean), "{mean}");
    }
}

#[rstest]
fn every_epoch_is_a_permutation(
    #[values(1, 2, 3, 4, 5, 7, 64, 100, 1000, 9000)] len: usize,
    #[values(0, 1, 42)] seed: u64,
) {
    let order = Shuffle::new(seed, len);
    for epoch in [0, 1, 2, 1_000_000_007] {
        let mut drawn = order.draw(epoch * len as u64, len);
        drawn.sort_unstable();
        assert!(drawn.into_iter().eq(0..len), "epoch {epoch}");
    }
}

#[test]
fn a_draw_depends_on_seed_length_and_position_alone() {
    let order = Shuffle::new(3, 1000);
    let all = order.draw(0, 3000);
    for position in [0, 1, 999, 1000, 1001, 2999] {
        assert_eq!(Shuffle::new(3, 1000).index(position), all[position as usize]);
    }
    // Resuming at step 17 with batches of 64, over the end of the first epoch.
    assert_eq!(Shuffle::new(3, 1000).draw(17 * 64, 64), all[17 * 64..18 * 64]);
    assert_eq!((order.epoch(999), order.epoch(1000), order.epoch(2999)), (0, 1, 2));
    // A change of the order would break the resuming of runs that exist: these are pinned.
    assert_eq!(Shuffle::new(0, 10).draw(0, 20), PINNED);
}

/// By an implementation in Python of the formula in the module's documentation.
const PINNED: [usize; 20] = [5, 1, 0, 2, 7, 8, 6, 3, 9, 4, 8, 3, 7, 4, 9, 6, 1, 0, 5, 2];

/// Places at which two orders agree by chance: Poisson with mean 1 for two random permutations.
#[test]
fn epochs_and_seeds_differ() {
    let agree = |a: &[usize], b: &[usize]| a.iter().zip(b).filter(|(a, b)| a == b).count();
    let order = |seed, epoch: u64| Shuffle::new(seed, 1000).draw(epoch * 1000, 1000);
    let identity: Vec<usize> = (0..1000).collect();
    for (a, b) in [
        (order(0, 0), identity),
        (order(0, 0), order(0, 1)),
        (order(0, 1), order(0, 2)),
        (order(0, 0), order(1, 0)),
        (order(0, 1), order(1, 0)),
        (order(5, 9), order(9, 5)),
    ] {
        assert!(agree(&a, &b) < 10, "{}", agree(&a, &b));
    }
}

/// Over many seeds, each of the 24 orders of four comes up equally often: chi squared with 23 degrees of freedom is below
/// 49.7 in 99.9% of trials, and the trial is always the same.
#[test]
fn small_permutations_are_even() {
    let mut counts = std::collections::HashMap::new();
    let trials = 24_000;
    for seed in 0..trials {
        *counts.entry(Shuffle::new(seed, 4).draw(0, 4)).or_insert(0_u32) += 1;
    }
    assert_eq!(counts.len(), 24);
    let expected = trials as f64 / 24.0;
    let chi_squared: f64 =
        counts.values().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
    assert!(chi_squared < 49.7, "{chi_squared}");
}

/// Where an index goes, and which follows which, is even too: 100 x 100 cells over 2,000 epochs.
#[test]
fn positions_and_neighbours_are_even() {
    let order = Shuffle::new(11, 100);
    let epochs = 2_000;
    let (mut place, mut next) = (vec![0_u32; 10_000], vec![0_u32; 10_000]);
    for epoch in 0..epochs {
        let drawn = order.draw(epoch * 100, 100);
        for (at, &index) in drawn.iter().enumerate() {
            place[at * 100 + index] += 1;
        }
        for pair in drawn.windows(2) {
            next[pair[0] * 100 + pair[1]] += 1;
        }
    }
    let chi_squared = |counts: &[u32], expected: f64| -> f64 {
        counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum()
    };
    // 9,801 degrees of freedom: mean 9,801, deviation 140.
    let places = chi_squared(&place, epochs as f64 / 100.0);
    assert!((places - 9801.0).abs() < 4.0 * 140.0, "{places}");
    // An index never follows itself.
    let others: Vec<u32> = (0..10_000).filter(|at| at / 100 != at % 100).map(|at| next[at]).collect();
    let neighbours = chi_squared(&others, epochs as f64 * 99.0 / 9900.0);
    assert!((neighbours - 9800.0).abs() < 4.0 * 140.0, "{neighbours}");
}
