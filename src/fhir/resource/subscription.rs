//! `Subscription`: how an authority wants to be told, R4 with the R5 backport.

use crate::fhir::{
    datatype::{ContactPoint, Element, Extension, Meta, fhir_struct},
    date::Instant,
};

fhir_struct! {
    /// <https://hl7.org/fhir/R4/subscription.html>
    #[serde(tag = "resourceType")]
    Subscription {
        id: Option<String>,
        meta: Option<Meta>,
        /// requested, active, error or off.
        status: String,
        contact: Vec<ContactPoint>,
        end: Option<Instant>,
        reason: String,
        /// URL of the topic.
        criteria: String,
        #[serde(rename = "_criteria")]
        criteria_element: Option<Element>,
        error: Option<String>,
        channel: SubscriptionChannel,
    }
}

fhir_struct! {
    SubscriptionChannel {
        /// Backport extensions: heartbeat period, timeout, most events of a notification.
        extension: Vec<Extension>,
        #[serde(rename = "type")]
        kind: String,
        #[serde(rename = "_type")]
        kind_element: Option<Element>,
        endpoint: Option<String>,
        /// MIME type of what is sent.
        payload: Option<String>,
        /// Holds the backport extension that says how much is sent.
        #[serde(rename = "_payload")]
        payload_element: Option<Element>,
        /// Header lines, `Name: value`; secret.
        header: Vec<String>,
    }
}
