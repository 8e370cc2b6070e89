//! Files appear whole or not at all.

use std::fs;
use std::path::Path;

use kiln_picture::{Channels, Encoding, Format, Picture, PictureError};
use rstest::rstest;

fn picture() -> Picture {
    Picture::new(2, 2, Channels::Grey, vec![1, 2, 3, 4]).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_is_written_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    fs::write(&path, "old").unwrap();
    picture().write_png(&path).unwrap();
    assert_eq!(Picture::open(&path).unwrap(), picture());
    assert_eq!(names(folder.path()), ["a.png"]);
}

/// A temporary file is private to its owner; a picture must not be.
#[cfg(unix)]
#[test]
fn a_new_file_has_the_rights_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (ours, plain) = (folder.path().join("ours.png"), folder.path().join("plain"));
    picture().write_png(&ours).unwrap();
    fs::write(&plain, "").unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&plain));
}

#[cfg(unix)]
#[test]
fn through_a_link_its_target_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("target.png"), folder.path().join("link.png"));
    fs::write(&target, "old").unwrap();
    std::os::unix::fs::symlink("target.png", &link).unwrap();
    picture().write_png(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(Picture::open(&target).unwrap(), picture());
}

#[test]
fn a_missing_folder_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nowhere/a.png");
    let error = picture().write_png(&path).unwrap_err();
    assert!(matches!(error.reason(), PictureError::Write(_)), "{error}");
    assert_eq!(error.path(), Some(path.as_path()));
    assert!(names(folder.path()).is_empty());
}

/// The rename fails (a folder has the name): what stands there stays, and no temporary file is left.
#[test]
fn a_failed_write_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("kept"), "kept").unwrap();
    let error = picture().write_png(&path).unwrap_err();
    assert!(matches!(error.reason(), PictureError::Write(_)), "{error}");
    assert_eq!(names(folder.path()), ["a.png"]);
    assert_eq!(names(&path), ["kept"]);
}

/// Renaming over a device or a socket would turn it into a plain file. (A socket in a folder of our own: were this tried
/// on /dev/null, a failure would cost the machine its /dev/null.)
#[cfg(unix)]
#[test]
fn what_is_no_plain_file_is_not_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket.png");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let error = picture().write_png(&path).unwrap_err();
    assert!(matches!(error.reason(), PictureError::Write(_)), "{error}");
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
}

#[cfg(unix)]
#[test]
fn a_folder_without_write_permission_keeps_the_old_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    // The superuser may write anywhere; then there is nothing to see here.
    let forbidden = fs::write(folder.path().join("probe"), "").is_err();
    let result = picture().write_png(&path);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if forbidden {
        assert!(matches!(result.unwrap_err().reason(), PictureError::Write(_)));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.png"]);
    }
}

#[test]
fn text_entries_are_kept() {
    let entries = [("Software", "kiln"), ("Comment", "Größe"), ("Title", "数字 7")];
    let bytes = picture().encode_png_with_text(&entries).unwrap();
    assert_eq!(Picture::decode(&bytes).unwrap(), picture());
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
    reader.finish().unwrap();
    let info = reader.info();
    let latin: Vec<_> =
        info.uncompressed_latin1_text.iter().map(|t| (t.keyword.as_str(), t.text.as_str())).collect();
    assert_eq!(latin, entries[..2]);
    let wide: Vec<_> = info.utf8_text.iter().map(|t| (t.keyword.clone(), t.get_text().unwrap())).collect();
    assert_eq!(wide, [("Title".to_owned(), "数字 7".to_owned())]);
}

#[rstest]
#[case::empty("")]
#[case::long(&"k".repeat(80))]
#[case::not_latin("数字")]
#[case::control("a\nb")]
#[case::leading(" a")]
#[case::trailing("a ")]
#[case::double("a  b")]
fn keywords_that_png_forbids_are_errors(#[case] keyword: &str) {
    let error = picture().encode_png_with_text(&[(keyword, "text")]).unwrap_err();
    assert!(matches!(error, PictureError::TextKeyword { .. }), "{error}");
    let folder = tempfile::tempdir().unwrap();
    assert!(picture().write_png_with_text(folder.path().join("a.png"), &[(keyword, "text")]).is_err());
    assert!(names(folder.path()).is_empty());
}

/// PNG and WebP come back as they were (WebP's grey as colour), JPEG nearly.
#[test]
fn every_format_that_is_read_is_written() {
    let folder = tempfile::tempdir().unwrap();
    for (name, channels) in crate::ALL_CHANNELS {
        let picture = crate::golden(&format!("source.{name}.png"));
        for encoding in [Encoding::Png, Encoding::WebP, Encoding::Jpeg { quality: 95 }] {
            let path = folder.path().join("a.file");
            let opaque = matches!(channels, Channels::Grey | Channels::Rgb);
            if encoding.format() == Format::Jpeg && !opaque {
                let error = picture.write(&path, encoding).unwrap_err();
                assert!(matches!(error.reason(), PictureError::Unencodable { .. }), "{error}");
                continue;
            }
            picture.write(&path, encoding).unwrap();
            assert_eq!(Format::of(&fs::read(&path).unwrap()), Some(encoding.format()));
            let back = Picture::open(&path).unwrap();
            match encoding {
                Encoding::Png => assert_eq!(back, picture),
                Encoding::WebP => assert_eq!(back, picture.convert(back.channels()), "{name}"),
                Encoding::Jpeg { .. } => {
                    let far = back.samples().iter().zip(picture.samples());
                    let mean = far.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>()
                        / picture.samples().len() as f64;
                    assert!(mean < 12.0 && back != picture, "{name}: {mean}");
                }
            }
        }
    }
}

#[rstest]
#[case(Encoding::WebP, 16_385)]
#[case(Encoding::Jpeg { quality: 90 }, 65_536)]
fn sides_that_a_format_does_not_hold_are_refused(#[case] encoding: Encoding, #[case] side: u32) {
    let error = encoding.takes(side, 1, Channels::Rgb).unwrap_err();
    assert!(error.to_string().contains(&side.to_string()), "{error}");
    assert!(encoding.takes(side - 1, 1, Channels::Rgb).is_ok());
    let long = Picture::new(1, side, Channels::Grey, vec![0; side as usize]).unwrap();
    assert!(matches!(long.encode(encoding), Err(PictureError::Unencodable { .. })));
    let best = Encoding::Jpeg { quality: 101 };
    assert!(
        best.takes(1, 1, Channels::Grey).is_err()
            && Encoding::Jpeg { quality: 0 }.takes(1, 1, Channels::Grey).is_err()
    );
}
