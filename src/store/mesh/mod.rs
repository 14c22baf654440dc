//! MESH: whose mailbox is which ([`mailbox`]), what came ([`received`]), what is sent ([`message`]) with the notifications
//! that it carries ([`notice`]), and how MESH itself stands ([`contact`]). What is decided from it is in `cpis::mesh`.

pub mod contact;
pub mod mailbox;
pub mod message;
pub mod notice;
pub mod received;
