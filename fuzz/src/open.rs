//! An object's file of which anything may have been overwritten, opened in every way.

use super::object::{OTHER, Victim, WORD, open_file, put, u64_at, word_of};
use super::words::{came, foretell};
use super::{Input, Place, Sound, edit, listed, plant, put_if_there, show, sound, state, tidy, u64_if_there};
use memlane::{Error, Name, Options, Origin, Persistence, Region, Segment, SharedMemory, gc, remove, retire};
use std::any::Any;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::time::Duration;

/// What is in the object before it is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Victim,
    Slice,
    Raw,
}

/// Who uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    Nobody,
    Creator,
    /// Its creator and an opener.
    Both,
    /// An opener, whose creator is gone.
    Opener,
    /// The same, who only reads.
    Reader,
}

/// An object with its users, of which anything may be overwritten.
pub struct Object {
    pub name: Name,
    pub file: File,
    pub users: Users,
    handles: Vec<Box<dyn Any>>,
    /// The words of those of them who can hold the locks of a [`Victim`].
    words: Vec<u64>,
}

impl Object {
    pub fn new(place: &Place, text: &str, kind: Kind, users: Users, persistence: Persistence) -> Self {
        let name = place.name(text);
        let path = place.file(text);
        let options = Options::new().persistence(persistence);
        let mut words = Vec::new();
        let mut handles: Vec<Box<dyn Any>> = vec![match kind {
            Kind::Victim => {
                let made = Segment::<Victim>::create(&name, (), &options, |_| ()).expect("a fresh object");
                words.push(word_of(&made, &open_file(&path)));
                Box::new(made)
            }
            Kind::Slice => Box::new(Segment::<[u16]>::create(&name, 50, &options, |_| ()).expect("a fresh object")),
            Kind::Raw => {
                Box::new(SharedMemory::create(&name, 100, &options).and_then(SharedMemory::map_mut).expect("as above"))
            }
        }];
        match users {
            Users::Nobody | Users::Creator => {}
            Users::Reader => handles.push(Box::new(Region::open(&name).expect("it is there"))),
            Users::Both | Users::Opener if kind == Kind::Victim => {
                let opened = Segment::<Victim>::open(&name).expect("it is there");
                words.push(word_of(&opened, &open_file(&path)));
                handles.push(Box::new(opened));
            }
            Users::Both | Users::Opener => handles.push(Box::new(SharedMemory::open(&name).expect("it is there"))),
        }
        let bytes = std::fs::read(&path).expect("its bytes");
        match users {
            Users::Nobody => handles.clear(),
            Users::Opener | Users::Reader => drop(handles.remove(0)),
            Users::Creator | Users::Both => {}
        }
        if matches!(users, Users::Opener | Users::Reader) && !words.is_empty() {
            words.remove(0);
        }
        if users == Users::Nobody {
            // As a killed process leaves it, also if it was to go with its last user.
            plant(&path, &bytes);
            words.clear();
        }
        Self { file: open_file(&path), name, users, handles, words }
    }

    /// Damages it.
    pub fn edit(&self, input: &mut Input<'_>) {
        let known = [self.words.as_slice(), &[1 << 32 | 1, 2 << 32 | 2, 1, 2, 12_288, 100]].concat();
        for _ in 0..input.byte() % 8 {
            match input.byte() % 8 {
                0 => self.resize(input),
                _ => edit(input, &self.file, &known),
            }
        }
    }

    fn resize(&self, input: &mut Input<'_>) {
        let data = u64_if_there(&self.file, 40).min(1 << 20);
        let (len, total) = match input.byte() % 4 {
            0 => (None, input.pick(&[0, 7, 8, 127, 128, 4096, 8447, 8448, 12_287, 12_288, 12_387, 12_389, 1 << 20])),
            1 => (None, input.number(2)),
            2 => (Some(input.number(2)), 0),
            // More than there is memory, which a sparse object may be.
            _ => {
                put_if_there(&self.file, 72, 1);
                (Some(1 << 36), 0)
            }
        };
        if let Some(len) = len {
            put_if_there(&self.file, 48, len);
        }
        let sparse = u64_if_there(&self.file, 72) as u32 != 0;
        let total = len.map_or(total, |len| data + len);
        if total <= 1 << 21 || sparse {
            self.file.set_len(total).expect("a sparse file");
        }
    }
}

/// What opening must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is there, and used or kept.
    Ready,
    /// Nobody uses it any more, or it was retired.
    Dead,
    Damaged,
}

fn verdict(object: &Object, sound: Option<&Sound>) -> Verdict {
    let used = object.users != Users::Nobody;
    match (sound, state(&object.file)) {
        (Some(sound), 0) if used || sound.kept => Verdict::Ready,
        (Some(_), 0 | 1) => Verdict::Dead,
        _ => Verdict::Damaged,
    }
}

/// The schemas of a [`Victim`] and of a slice, as the library writes them.
fn schemas() -> &'static [String; 2] {
    static SCHEMAS: OnceLock<[String; 2]> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        let place = Place::new();
        [Kind::Victim, Kind::Slice].map(|kind| {
            let object = Object::new(&place, "s", kind, Users::Creator, Persistence::UntilLastUser);
            sound(&object.file).expect("just made").schema
        })
    })
}

fn is_victim(sound: &Sound) -> bool {
    (&sound.schema, sound.tail, sound.len) == (&schemas()[0], 0, size_of::<Victim>() as u64)
}

fn is_slice(sound: &Sound) -> bool {
    sound.schema == schemas()[1] && sound.tail.checked_mul(2) == Some(sound.len)
}

/// More than an address space may have room for.
fn is_huge(sound: &Sound) -> bool {
    sound.len > 1 << 30
}

/// A way to open, and whether it must work on an object that is ready.
type Opening = (fn(&Object, Option<&Sound>) -> Result<(), Error>, fn(&Sound) -> bool);

/// Every way.
const OPENINGS: [Opening; 5] = [
    (read_only, |_| true),
    (mutable, |sound| sound.schema.is_empty()),
    (typed, is_victim),
    (slice, is_slice),
    (in_time, is_victim),
];

fn read_only(object: &Object, sound: Option<&Sound>) -> Result<(), Error> {
    let region = Region::open(&object.name)?;
    let sound = sound.expect("a damaged header was believed");
    assert_eq!(region.len() as u64, sound.len);
    let last = region.len().saturating_sub(1);
    if !is_huge(sound) && region.len() > 0 {
        let mut byte = [0; 2];
        region.read_at(last, &mut byte[..1])?;
        object.file.read_exact_at(&mut byte[1..], sound.data + last as u64).expect("inside the file");
        assert_eq!(byte[0], byte[1]);
    }
    for (offset, len) in [(last + 1, 1), (usize::MAX, 1), (0, region.len().min(1 << 20) + 1)] {
        let fits = region.read_at(offset, &mut vec![0; len]).is_ok();
        assert_eq!(fits, offset.checked_add(len).is_some_and(|end| end <= region.len()));
    }
    tidy(&format!("{region:?}"));
    Ok(())
}

fn mutable(object: &Object, sound: Option<&Sound>) -> Result<(), Error> {
    let memory = SharedMemory::open(&object.name)?;
    let sound = sound.expect("a damaged header was believed");
    let persistence = if sound.kept { Persistence::Keep } else { Persistence::UntilLastUser };
    assert_eq!((memory.size(), memory.id(), memory.persistence()), (sound.len, sound.id, persistence));
    assert_eq!(memory.origin(), Origin::Opened);
    let mut region = memory.map_mut()?;
    assert_eq!(region.len() as u64, sound.len);
    assert!(region.is_alive(region.owner()) && !region.is_retired());
    assert_eq!(region.who(region.owner()).map(|who| who.pid), Some(std::process::id()));
    if region.len() > 0 {
        let mut byte = [0];
        region.write_at(0, b"x")?;
        region.read_at(0, &mut byte)?;
        assert_eq!(&byte, b"x");
    }
    assert!(region.write_at(region.len(), b"x").is_err());
    Ok(())
}

fn typed(object: &Object, sound: Option<&Sound>) -> Result<(), Error> {
    look(object, sound, Segment::open(&object.name)?)
}

fn in_time(object: &Object, sound: Option<&Sound>) -> Result<(), Error> {
    look(object, sound, Segment::wait_for(&object.name, Some(Duration::ZERO))?)
}

/// Takes the lock of an object that was opened as a `Victim`.
fn look(object: &Object, sound: Option<&Sound>, segment: Segment<Victim>) -> Result<(), Error> {
    assert!(is_victim(sound.expect("a damaged header was believed")));
    put(&object.file, OTHER, &[0; 8]);
    let other = segment.other.try_lock(&segment).expect("it is free");
    let me = u64_at(&object.file, OTHER);
    drop(other);
    let foretold = foretell(&object.file, WORD, me, &object.words, &[]);
    let result = segment.state.try_lock(&segment);
    assert_eq!(came(&result), foretold);
    let _ = result.map(|locked| segment.region().is_alive(locked.or_repair(|_| ()).peer)).map_err(|error| show(&error));
    segment.changed.notify_all();
    tidy(&format!("{segment:?}"));
    Ok(())
}

fn slice(object: &Object, sound: Option<&Sound>) -> Result<(), Error> {
    let segment = Segment::<[u16]>::open(&object.name)?;
    assert!(is_slice(sound.expect("a damaged header was believed")));
    assert_eq!(segment.iter().count() as u64, sound.map_or(0, |sound| sound.tail));
    Ok(())
}

/// Opens in every way, beginning with the `first`; all agree with what the header says.
fn open_all(object: &Object, sound: Option<&Sound>, first: usize) {
    for (number, (opening, fits)) in OPENINGS.iter().cycle().skip(first).take(OPENINGS.len()).enumerate() {
        let verdict = verdict(object, sound);
        let result = opening(object, sound);
        let Some(sound) = sound.filter(|_| verdict == Verdict::Ready) else {
            let error = result.expect_err("it is not ready");
            show(&error);
            let missing = matches!(error, Error::NotFound { .. } | Error::TimedOut { .. });
            assert_eq!(missing, verdict == Verdict::Dead, "{error:?}");
            continue;
        };
        match result {
            Ok(()) => assert!(fits(sound), "opening {number} after {first}"),
            Err(error @ Error::TypeMismatch { .. }) => {
                assert!(!fits(sound), "{error:?}");
                show(&error);
            }
            Err(Error::Corrupt { field: "tail length", .. }) => assert!(!fits(sound)),
            Err(Error::Os { .. } | Error::TooLarge { .. }) if is_huge(sound) => {}
            Err(error) => panic!("{error:?} of {sound:?}"),
        }
    }
}

/// Creates, or opens or creates, a `Victim` of that name.
fn create(object: &Object, sound: Option<&Sound>, or_open: bool) {
    let options = Options::new();
    let orphaned = matches!(object.users, Users::Opener | Users::Reader);
    let there = object.name.directory().expect("it has one").join(object.name.as_str()).exists();
    let verdict = verdict(object, sound);
    let result = match or_open {
        true => Segment::<Victim>::open_or_create(&object.name, (), &options, |_| ()),
        false => Segment::<Victim>::create(&object.name, (), &options, |_| ()),
    };
    let origin = result.as_ref().map(Segment::origin);
    let expected = match sound {
        _ if !there || verdict == Verdict::Dead => Some(Origin::Created),
        Some(sound) if verdict == Verdict::Ready && or_open => is_victim(sound).then_some(Origin::Opened),
        Some(sound) if verdict == Verdict::Ready && orphaned && !sound.kept && is_victim(sound) => {
            Some(Origin::TakenOver)
        }
        // Its users are told to let go.
        Some(sound) if verdict == Verdict::Ready && orphaned && !sound.kept => Some(Origin::Created),
        _ => None,
    };
    assert_eq!(origin.as_ref().ok().copied(), expected, "{:?} of {sound:?}", result.as_ref().err());
    if let Err(error) = &result {
        show(error);
        assert!(!matches!(error, Error::NotFound { .. }));
    }
}

/// Removes or retires it: a damaged object too, but nothing that never was one.
fn take_away(object: &Object, sound: Option<&Sound>, by_force: bool) {
    let path = object.name.directory().expect("it has one").join(object.name.as_str());
    let there = path.exists();
    let result = if by_force { retire(&object.name) } else { remove(&object.name) };
    match result {
        Ok(()) => assert!(there && !path.exists()),
        Err(Error::NotFound { .. }) => assert!(!there),
        Err(error) => {
            assert!(matches!(error, Error::Foreign { .. }) && there && sound.is_none() && path.exists(), "{error:?}");
            show(&error);
        }
    }
    if by_force && there && sound.is_some() {
        assert_eq!(state(&object.file), 1);
    }
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let place = Place::new();
    let persistence = input.pick(&[Persistence::UntilLastUser, Persistence::Keep]);
    let kind = input.pick(&[Kind::Victim, Kind::Slice, Kind::Raw]);
    let users = input.pick(&[Users::Creator, Users::Nobody, Users::Both, Users::Opener, Users::Reader]);
    let (first, last) = (usize::from(input.byte()) % OPENINGS.len(), input.byte() % 8);
    let object = Object::new(&place, "o", kind, users, persistence);
    if last == 7 {
        // Nothing but the input.
        object.file.set_len(0).expect("it is ours");
        put(&object.file, 0, input.rest());
    } else {
        object.edit(&mut input);
    }
    let header = sound(&object.file);
    let header = header.as_ref();
    list_it(&place, &object, header);
    open_all(&object, header, first);
    match last {
        0 => create(&object, header, false),
        1 => create(&object, header, true),
        2 => take_away(&object, header, false),
        3 => take_away(&object, header, true),
        _ => {}
    }
}

/// It is listed as what it is, and `gc` would take it if it is dead.
fn list_it(place: &Place, object: &Object, sound: Option<&Sound>) {
    let listed = listed(place);
    let [one] = &listed[..] else { panic!("{listed:?}") };
    let verdict = verdict(object, sound);
    assert_eq!((one.problem.is_some(), one.stale), (verdict == Verdict::Damaged, verdict == Verdict::Dead), "{one:?}");
    if let Some(sound) = sound.filter(|_| verdict != Verdict::Damaged) {
        assert_eq!(one.size, sound.data + sound.len);
        assert_eq!(one.type_name.is_none(), sound.schema.is_empty());
        assert_eq!(one.in_use, verdict == Verdict::Ready && object.users != Users::Nobody);
    }
    let dead = gc(Some(place.path()), true).expect("the directory");
    assert_eq!(dead.len(), usize::from(verdict == Verdict::Dead), "{dead:?}");
}
