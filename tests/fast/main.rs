//! Tests without processes, sockets or real time, on every push.

mod sim;
