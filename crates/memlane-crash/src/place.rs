//! Where in the source a victim was: its instruction and its callers, found in the debug information of its files.

use addr2line::Loader;
use addr2line::gimli::{
    BaseAddresses, CfaRule, EhFrame, LittleEndian, Register, RegisterRule, UnwindContext, UnwindSection,
};
use object::{Object, ObjectSection, ObjectSegment};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// More callers than this are not looked for.
const DEEPEST: usize = 64;

/// More frames than this are not shown.
const SHOWN: usize = 8;

/// One function that was being executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its name.
    pub function: String,
    /// Its source file, relative to the working directory if it lies below it.
    pub file: String,
    /// The line in it.
    pub line: u32,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}  {}", self.file, self.line, self.function)
    }
}

/// The registers in the order in which debug information numbers them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registers(pub(crate) [u64; 17]);

const STACK_POINTER: usize = 7;
const INSTRUCTION: usize = 16;

impl Registers {
    /// The address of the next instruction.
    pub(crate) fn instruction(&self) -> u64 {
        self.0[INSTRUCTION]
    }

    pub(crate) fn stack(&self) -> u64 {
        self.0[STACK_POINTER]
    }
}

/// Where a process was stopped: enough of it to find the source lines when it is gone.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The address of the last instruction that was executed.
    pub(crate) executed: u64,
    pub(crate) registers: Registers,
    /// The bytes from the stack pointer on.
    pub(crate) stack: Vec<u8>,
    /// What `/proc/PID/maps` said.
    pub(crate) maps: String,
}

impl Snapshot {
    /// The functions, innermost first: those with a source line that are neither of the standard library nor of a
    /// crate from a registry.
    pub(crate) fn frames(&self) -> Vec<Frame> {
        let (mut modules, mut frames) = (Modules::default(), Vec::new());
        if let Some((module, at)) = modules.find(&self.maps, self.executed) {
            module.describe(at, &mut frames);
        }
        let (mut registers, mut address) = (self.registers, self.registers.instruction());
        for _ in 0..DEEPEST {
            let Some((module, at)) = modules.find(&self.maps, address) else { break };
            let Some(caller) = module.caller(&registers, at, |address| self.word(address)) else { break };
            registers = caller;
            // It returns to the instruction after the call, which may be of another line.
            address = registers.instruction() - 1;
            if let Some((module, at)) = modules.find(&self.maps, address) {
                module.describe(at, &mut frames);
            }
        }
        let own = frames.iter().position(|frame| frame.function.starts_with("memlane_crash::victim::"));
        frames.truncate(own.unwrap_or(frames.len()).min(SHOWN));
        frames
    }

    fn word(&self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(self.registers.stack())?).ok()?;
        let bytes = self.stack.get(offset..offset.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }
}

/// The files that are mapped as code, read when they are first met.
#[derive(Default)]
struct Modules(BTreeMap<String, Option<Module>>);

impl Modules {
    /// The file that `address` lies in, and the address as the file counts.
    fn find(&mut self, maps: &str, address: u64) -> Option<(&Module, u64)> {
        let (path, offset) = maps.lines().find_map(|line| mapped(line, address))?;
        let module = self.0.entry(path.to_owned()).or_insert_with(|| Module::read(path)).as_ref()?;
        Some((module, module.address_of(offset)?))
    }
}

/// The file, and the offset in it, if this line of `/proc/PID/maps` covers `address`.
fn mapped(line: &str, address: u64) -> Option<(&str, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let from = u64::from_str_radix(from, 16).ok()?;
    let to = u64::from_str_radix(to, 16).ok()?;
    let offset = u64::from_str_radix(words.nth(1)?, 16).ok()?;
    let path = line.split_once('/').map(|(_, path)| path)?;
    let path = &line[line.len() - path.len() - 1..];
    (from..to).contains(&address).then_some((path, address - from + offset))
}

struct Module {
    loader: Loader,
    segments: Vec<(u64, u64, u64)>,
    unwinding: Vec<u8>,
    bases: BaseAddresses,
}

impl Module {
    fn read(path: &str) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let object = object::File::parse(&*bytes).ok()?;
        let segments = object.segments().map(|segment| {
            let (offset, len) = segment.file_range();
            (offset, len, segment.address())
        });
        let section = object.section_by_name(".eh_frame")?;
        let mut bases = BaseAddresses::default().set_eh_frame(section.address());
        if let Some(text) = object.section_by_name(".text") {
            bases = bases.set_text(text.address());
        }
        Some(Self {
            loader: Loader::new(path).ok()?,
            segments: segments.collect(),
            unwinding: section.data().ok()?.to_vec(),
            bases,
        })
    }

    fn address_of(&self, offset: u64) -> Option<u64> {
        let inside = |segment: &&(u64, u64, u64)| (segment.0..segment.0 + segment.1).contains(&offset);
        self.segments.iter().find(inside).map(|segment| offset - segment.0 + segment.2)
    }

    /// Adds the functions at `address`: the one that was compiled there, and those that were inlined into it.
    fn describe(&self, address: u64, frames: &mut Vec<Frame>) {
        let Ok(mut found) = self.loader.find_frames(address) else { return };
        while let Ok(Some(frame)) = found.next() {
            let Some((file, line)) = frame.location.and_then(|place| place.file.zip(place.line)) else { continue };
            let Some(name) = frame.function.and_then(|name| name.demangle().map(|name| name.into_owned()).ok()) else {
                continue;
            };
            if !file.starts_with("/rustc/") && !file.contains("/registry/src/") {
                frames.push(Frame { function: without_hash(&name), file: shortened(file), line });
            }
        }
    }

    /// The registers as the caller of the function at `probe` has them.
    fn caller(&self, registers: &Registers, probe: u64, word: impl Fn(u64) -> Option<u64>) -> Option<Registers> {
        let mut frames = EhFrame::new(&self.unwinding, LittleEndian);
        frames.set_address_size(8);
        let mut context = UnwindContext::new();
        let row = frames.unwind_info_for_address(&self.bases, &mut context, probe, EhFrame::cie_from_offset).ok()?;
        let CfaRule::RegisterAndOffset { register, offset } = *row.cfa() else { return None };
        let frame = registers.0.get(usize::from(register.0))?.wrapping_add_signed(offset);
        let mut caller = *registers;
        for number in 0..=16 {
            if let Some(RegisterRule::Offset(offset)) = row.register(Register(number)) {
                caller.0[usize::from(number)] = word(frame.wrapping_add_signed(offset))?;
            }
        }
        caller.0[STACK_POINTER] = frame;
        (caller.instruction() != 0).then_some(caller)
    }
}

/// A Rust name without the hash at its end.
fn without_hash(name: &str) -> String {
    match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name.to_owned(),
        _ => name.to_owned(),
    }
}

fn shortened(file: &str) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    Path::new(file).strip_prefix(here).unwrap_or(Path::new(file)).display().to_string()
}
