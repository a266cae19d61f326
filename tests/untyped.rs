//! Programs that learn types when they run: what `Untyped` and `Schema` promise, against programs that know them.
#![allow(missing_docs, unsafe_code)]

mod common;

use common::Dir;
use memlane::{
    ChannelOptions, Client, Error, Image, Layout, Mutex, Options, PixelFormat, Receiver, RegionMut, Schema, Segment,
    Sender, Server, ServiceOptions, Shareable, SharedMemory, Tensor, Untyped, UntypedTail,
};

#[derive(Debug, Clone, Copy, PartialEq, Shareable)]
#[repr(C)]
struct Pose {
    stamp: u64,
    position: [f32; 3],
    kind: u8,
}

#[derive(Shareable)]
#[repr(C)]
struct Scan {
    pose: Pose,
    points: [[u16; 3]],
}

#[derive(Shareable)]
#[repr(C)]
struct Shared {
    serial: u32,
    pose: Mutex<Pose>,
}

fn tail_of(schema: &Schema, elements: u64) -> UntypedTail {
    UntypedTail::new(schema.layout().expect("it is described"), elements).expect("there are such messages")
}

#[test]
fn what_is_described_is_as_large_as_the_type_that_describes_itself() {
    fn same<T: Shareable + ?Sized>() {
        let described = Schema::of::<T>().layout().expect("a layout");
        let sizes = |layout: Layout| [0, 1, 2, 3, 7, 100].map(|tail| layout.size(tail));
        assert_eq!((described.align(), described.has_tail()), (T::LAYOUT.align(), T::LAYOUT.has_tail()));
        assert_eq!(sizes(described), sizes(T::LAYOUT), "{}", Schema::of::<T>().as_str());
    }
    same::<u8>();
    same::<[u64]>();
    same::<Pose>();
    same::<Scan>();
    same::<Shared>();
    same::<[Pose]>();
    same::<[[u32; 3]; 2]>();
    same::<Image>();
    same::<Tensor>();
}

#[test]
fn what_cannot_be_read_has_no_layout() {
    assert_eq!(Schema::default().layout(), None);
    let mut schema = Schema::default();
    schema.line("", "Huge", 0, usize::MAX);
    schema.line("a", "u64", 0, 8);
    assert_eq!(schema.layout(), None, "no such size can be rounded up");
    let mut schema = Schema::default();
    schema.line("", "Tail", 0, 8);
    schema.line("tail", "flexible tail", 8, 0);
    assert_eq!(schema.layout(), None, "elements of no known size");
    schema.line("tail.[]", "u8", 8, usize::MAX);
    assert_eq!(schema.layout().expect("sizes").size(2), None, "not more than can be counted");
}

#[test]
fn a_receiver_of_anything_gets_messages_of_every_type() {
    let dir = Dir::new();
    let sender = Sender::<Scan>::create(dir.name("scan"), &ChannelOptions::new().max_message(1000)).expect("a channel");
    let mut receiver = Receiver::<Untyped>::open(dir.name("scan")).expect("any type will do");
    assert_eq!(receiver.schema(), Schema::of::<Scan>());
    for points in [0, 1, 5] {
        let mut scan = sender.loan(points).expect("a buffer");
        scan.pose = Pose { stamp: 7, position: [1.0, 2.0, 3.0], kind: 9 };
        scan.points.fill([1, 2, 3]);
        scan.send().expect("there is room");
        let message = receiver.recv().expect("it was sent");
        assert_eq!(
            (message.tail().elements(), message.len()),
            (points as u64, Scan::LAYOUT.size(points as u64).unwrap())
        );
        let view = message.view::<Scan>().expect("it is one");
        assert!(view.pose.position == [1.0, 2.0, 3.0] && view.points[..points].iter().all(|point| *point == [1, 2, 3]));
        assert!(message.view::<[[u64; 999]; 2]>().is_none(), "there are not so many bytes");
    }
    // Bytes, in the entry and in a buffer.
    let sender = Sender::<[u8]>::create(dir.name("bytes"), &ChannelOptions::new()).expect("a channel");
    let mut receiver = Receiver::<Untyped>::open(dir.name("bytes")).expect("any type will do");
    for len in [0, 1, 88, 89, 5000] {
        sender.send_copy(&vec![7; len]).expect("there is room");
        assert_eq!(receiver.recv().expect("it was sent")[..], vec![7; len]);
    }
}

#[test]
fn what_anything_sends_arrives_as_the_type_that_it_is() {
    let dir = Dir::new();
    let options = ChannelOptions::new().max_message(1000).senders(2);
    let sender = Sender::<Untyped>::create_as(dir.name("scan"), &options, &Schema::of::<Scan>()).expect("a channel");
    let mut receiver = Receiver::<Scan>::open(dir.name("scan")).expect("it is described alike");
    assert!(matches!(Receiver::<Image>::open(dir.name("scan")), Err(Error::TypeMismatch { .. })));
    let others = Sender::<Untyped>::open_or_create_as(dir.name("scan"), &options, &Schema::of::<Image>());
    assert!(matches!(others, Err(Error::TypeMismatch { .. })));
    for points in [0, 1, 2, 5] {
        let mut loan = sender.loan(tail_of(&sender.schema(), points as u64)).expect("a buffer");
        let scan = loan.view_mut::<Scan>().expect("it is one");
        scan.pose.stamp = points as u64;
        scan.points.iter_mut().for_each(|point| *point = [4, 5, 6]);
        loan.send().expect("there is room");
        let scan = receiver.recv().expect("it was sent");
        assert_eq!((scan.pose.stamp, scan.points.len()), (points as u64, points));
        assert!(scan.points.iter().all(|point| *point == [4, 5, 6]));
    }
    // A type without a tail, which would be small if a typed sender sent it.
    let sender = Sender::<Untyped>::create_as(dir.name("u64"), &options, &Schema::of::<u64>()).expect("a channel");
    let mut receiver = Receiver::<u64>::open(dir.name("u64")).expect("it is described alike");
    let mut loan = sender.loan(tail_of(&sender.schema(), 0)).expect("a buffer");
    *loan.view_mut::<u64>().expect("it is one") = 42;
    loan.send().expect("there is room");
    assert_eq!(*receiver.recv().expect("it was sent"), 42);
    assert_eq!(UntypedTail::new(u64::LAYOUT, 1), None, "it has no tail");
}

#[test]
fn a_view_is_no_longer_than_the_bytes_though_its_end_is_padded() {
    let dir = Dir::new();
    let sender = Sender::<[u8]>::create(dir.name("bytes"), &ChannelOptions::new()).expect("a channel");
    let mut receiver = Receiver::<Untyped>::open(dir.name("bytes")).expect("any type will do");
    // 24 bytes, and elements of 6, up to a multiple of 8.
    for (len, points) in
        [(23, None), (24, Some(0)), (31, Some(0)), (32, Some(1)), (39, Some(1)), (40, Some(2)), (48, Some(4))]
    {
        sender.send_copy(&vec![1; len]).expect("there is room");
        let message = receiver.recv().expect("it was sent");
        assert_eq!(message.view::<Scan>().map(|scan| scan.points.len()), points, "{len} bytes");
        assert!(message.view::<Scan>().is_none_or(|scan| size_of_val(scan) <= len), "{len} bytes");
    }
}

#[test]
fn an_opened_channel_of_images_takes_what_anything_sends() {
    let dir = Dir::new();
    let _first = Sender::<Image>::create(dir.name("cam"), &ChannelOptions::new().senders(2)).expect("a channel");
    let second = Sender::<Untyped>::open(dir.name("cam")).expect("there is a lane");
    let mut receiver = Receiver::<Image>::open(dir.name("cam")).expect("it is there");
    let mut loan = second.loan(tail_of(&second.schema(), 6)).expect("a buffer");
    let image = loan.view_mut::<Image>().expect("it is one");
    (image.width, image.height, image.stride, image.format) = (2, 1, 6, PixelFormat::Rgb8.number());
    image.pixels.fill(3);
    loan.send().expect("there is room");
    let image = receiver.recv().expect("it was sent");
    assert!(
        image.rows().is_some_and(|(format, mut rows)| format == PixelFormat::Rgb8 && rows.all(|row| row == [3; 6]))
    );
}

#[test]
fn a_service_of_anything_answers_clients_that_know_its_types() {
    let dir = Dir::new();
    let schemas = [Schema::of::<Pose>(), Schema::of::<[u8]>()];
    let [pose, bytes] = &schemas;
    let mut server =
        Server::<Untyped, Untyped>::create_as(dir.name("s"), &ServiceOptions::new(), [pose, bytes]).expect("one");
    assert_eq!(server.schemas(), schemas);
    let mut client = Client::<Pose, [u8]>::open(dir.name("s")).expect("it is described alike");
    assert_eq!(client.schemas(), schemas);
    let mut request = client.loan(()).expect("a buffer");
    request.stamp = 5;
    let call = client.call(request).expect("there is room");
    let request = server.recv().expect("a request");
    let stamp = request.view::<Pose>().expect("it is one").stamp;
    let mut answer = request.loan(tail_of(bytes, stamp)).expect("a buffer");
    answer.fill(9);
    answer.send().expect("there is room");
    assert_eq!(client.answer(call, None).expect("an answer")[..], [9; 5]);
}

#[test]
fn an_object_says_what_it_is_and_is_opened_as_that_only() {
    let dir = Dir::new();
    let schema = Schema::of::<Shared>();
    let segment =
        Segment::<Shared>::create(dir.name("s"), (), &Options::new(), |shared| shared.serial = 3).expect("one");
    let object = SharedMemory::open(dir.name("s")).expect("it is there");
    assert_eq!((object.schema(), object.tail_len()), (schema.clone(), 0));
    // SAFETY: what changes is changed under its lock.
    let mut region = unsafe { RegionMut::open_as(dir.name("s"), &schema) }.expect("it is described alike");
    let mutex = schema.fields().find(|field| field.kind == "mutex").expect("there is one");
    {
        // SAFETY: everybody uses these bytes as a mutex.
        let lock = unsafe { region.at::<Mutex<[u8; 0]>>(mutex.offset, ()) }.expect("it lies there");
        let held = lock.lock(&region).expect("nobody has it").or_repair(|_| ());
        assert!(segment.pose.try_lock(&segment).is_err(), "it is the same lock");
        drop(held);
    }
    let mut serial = [0; 4];
    region.read_at(0, &mut serial).expect("bytes");
    assert_eq!(u32::from_ne_bytes(serial), 3);
    // SAFETY: it is not opened.
    let error = unsafe { RegionMut::open_as(dir.name("s"), &Schema::of::<Pose>()) }.expect_err("another type");
    assert!(matches!(&error, Error::TypeMismatch { .. }) && error.to_string().contains("serial"), "{error}");
    assert!(
        matches!(Segment::<Untyped>::open(dir.name("s")), Err(Error::TypeMismatch { .. })),
        "a segment is of one type"
    );
}

#[test]
fn an_object_made_from_a_description_is_the_type_that_describes_itself_so() {
    let dir = Dir::new();
    let schema = Schema::of::<Scan>();
    let points = |bytes: &mut [u8]| bytes[0..8].copy_from_slice(&11_u64.to_ne_bytes());
    // SAFETY: nobody changes what is in it.
    let region =
        unsafe { RegionMut::create_as(dir.name("s"), &schema, 4, &Options::new(), points) }.expect("an object");
    let scan = Segment::<Scan>::open(dir.name("s")).expect("it is described alike");
    assert_eq!((scan.pose.stamp, scan.points.len(), region.len()), (11, 4, Scan::LAYOUT.size(4).unwrap()));
    // SAFETY: it is not created.
    let none = unsafe { RegionMut::create_as(dir.name("t"), &Schema::default(), 0, &Options::new(), |_| ()) };
    assert!(matches!(none, Err(Error::TooLarge { .. })), "it cannot be told how large it is");
}
