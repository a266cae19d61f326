//! Everything that is compared, in the order of the tables: memlane, its peers, what the kernel offers, and the floors.

mod boost;
mod eventfd;
mod floors;
mod iceoryx2;
mod ipc_channel;
mod memlane;
mod pipe;
mod rendezvous;
mod rounds;
mod socket;
mod stream;

use crate::transport::{Laps, Role, Setup, Side, Transport, Workload};

pub(crate) fn all() -> Vec<Transport> {
    let modules = [
        memlane::transports,
        boost::transports,
        iceoryx2::transports,
        ipc_channel::transports,
        socket::transports,
        pipe::transports,
        floors::transports,
    ];
    modules.into_iter().flat_map(|transports| transports()).collect()
}

/// Whether that is what others stand on.
pub(crate) fn is_floor(name: &str) -> bool {
    floors::transports().iter().any(|floor| floor.name == name)
}

/// A side that has nothing to do but to keep something open.
struct Nothing<T>(T);

impl<T> Side for Nothing<T> {
    fn rounds(&mut self, _: u64, _: &dyn Fn(), _: &mut Laps) {}
}

/// A side that locks, unless it is to leave that to the other one.
fn lock_side(setup: &Setup, open: impl FnOnce() -> Box<dyn Side>) -> Box<dyn Side> {
    match (setup.case.workload, setup.role) {
        (Workload::Lock, Role::Answer) => Box::new(Nothing(())),
        _ => open(),
    }
}
