//! The tables, once for both stores; the migrations under `migrations/` make them. A test compares the two.

diesel::table! {
    organization (id) {
        id -> BigInt,
        ods -> Text,
        name -> Text,
        name_search -> Text,
        kind -> Text,
        care_setting -> Nullable<Text>,
        sensitive -> Bool,
        office_phone -> Nullable<Text>,
        duty_phone -> Nullable<Text>,
        part_of -> Nullable<Text>,
        active -> Bool,
        succeeded_by -> Nullable<Text>,
        version -> BigInt,
        updated_ms -> BigInt,
        silent_alert_ms -> Nullable<BigInt>,
        confirmed_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    organization_version (id) {
        id -> BigInt,
        organization_id -> BigInt,
        version -> BigInt,
        name -> Text,
        kind -> Text,
        care_setting -> Nullable<Text>,
        sensitive -> Bool,
        office_phone -> Nullable<Text>,
        duty_phone -> Nullable<Text>,
        part_of -> Nullable<Text>,
        active -> Bool,
        recorded_ms -> BigInt,
    }
}

diesel::table! {
    succession (authority_id, predecessor_id) {
        authority_id -> BigInt,
        predecessor_id -> BigInt,
        since_ms -> BigInt,
    }
}

diesel::table! {
    client (client_id) {
        client_id -> Text,
        name -> Text,
        role -> Text,
        organization_ods -> Text,
        unattended -> Bool,
        activities -> Text,
        disabled -> Bool,
    }
}

diesel::table! {
    register_entry (nhs_number) {
        nhs_number -> Text,
        family -> Text,
        given -> Text,
        birth_date -> Date,
        status -> Text,
        replaced_by -> Nullable<Text>,
        deceased -> Bool,
    }
}

diesel::table! {
    person (id) {
        id -> BigInt,
        nhs_number -> Text,
        status -> Text,
        traced_birth_date -> Nullable<Date>,
        beneath -> Nullable<Text>,
        deceased -> Bool,
        register_seen -> Nullable<Text>,
        traced_ms -> BigInt,
        retrace_ms -> Nullable<BigInt>,
        claimed_ms -> Nullable<BigInt>,
        unknown_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    alias (old_person_id) {
        old_person_id -> BigInt,
        replacing_person_id -> BigInt,
        since_ms -> BigInt,
    }
}

diesel::table! {
    retrace_pace (id) {
        id -> BigInt,
        began_ms -> BigInt,
        granted_ms -> BigInt,
    }
}

diesel::table! {
    trace_result (authority_id, nhs_number) {
        authority_id -> BigInt,
        nhs_number -> Text,
        asked_ms -> BigInt,
        result -> Text,
        replaced_by -> Nullable<Text>,
        family -> Nullable<Text>,
        given -> Nullable<Text>,
        birth_date -> Nullable<Date>,
        deceased -> Bool,
    }
}

diesel::table! {
    upload (id) {
        id -> BigInt,
        uuid -> Text,
        authority_id -> BigInt,
        door -> Text,
        sequence_number -> Nullable<BigInt>,
        content_hash -> Nullable<Binary>,
        state -> Text,
        received_ms -> BigInt,
        applied_ms -> Nullable<BigInt>,
        records -> BigInt,
        file_code -> Nullable<Text>,
        answer -> Nullable<Binary>,
        reminded_ms -> Nullable<BigInt>,
        mesh_message -> Nullable<Text>,
        judged -> BigInt,
        form -> Nullable<Text>,
    }
}

diesel::table! {
    upload_record (upload_id, position) {
        upload_id -> BigInt,
        position -> BigInt,
        code -> Text,
        nhs_number -> Nullable<Text>,
        reason -> Nullable<Text>,
        recorded_ms -> BigInt,
        answer -> Nullable<Text>,
        form -> Nullable<Text>,
        resolved_ms -> Nullable<BigInt>,
        resolved_by -> Nullable<BigInt>,
    }
}

diesel::table! {
    authority_child (id) {
        id -> BigInt,
        authority_id -> BigInt,
        person_id -> BigInt,
        due_date -> Nullable<Date>,
    }
}

diesel::table! {
    authority_child_version (id) {
        id -> BigInt,
        child_id -> BigInt,
        version -> BigInt,
        authority_id -> BigInt,
        upload_id -> Nullable<BigInt>,
        family -> Text,
        given -> Text,
        birth_date -> Date,
        local_id -> Nullable<Text>,
        recorded_ms -> BigInt,
    }
}

diesel::table! {
    plan (id) {
        id -> BigInt,
        uuid -> Text,
        child_id -> BigInt,
        plan_type -> Text,
        created_ms -> BigInt,
        ended_told -> Nullable<Text>,
    }
}

diesel::table! {
    plan_version (id) {
        id -> BigInt,
        plan_id -> BigInt,
        version -> BigInt,
        authority_id -> BigInt,
        upload_id -> Nullable<BigInt>,
        start_date -> Date,
        end_date -> Nullable<Date>,
        local_id -> Nullable<Text>,
        deleted -> Bool,
        recorded_ms -> BigInt,
        ended_by -> Nullable<Text>,
        ended_on -> Nullable<Date>,
    }
}

diesel::table! {
    access (id) {
        id -> BigInt,
        uuid -> Text,
        person_id -> BigInt,
        nhs_number -> Text,
        author_key -> Text,
        author -> Text,
        at_ms -> BigInt,
        request_id -> Text,
    }
}

diesel::table! {
    access_listing (access_id, authority_id) {
        access_id -> BigInt,
        authority_id -> BigInt,
        person_id -> BigInt,
        author_key -> Text,
        at_ms -> BigInt,
    }
}

diesel::table! {
    outbox (id) {
        id -> BigInt,
        uuid -> Text,
        kind -> Text,
        authority_id -> BigInt,
        access_id -> Nullable<BigInt>,
        created_ms -> BigInt,
        routed_ms -> Nullable<BigInt>,
        nhs_number -> Nullable<Text>,
        replaced_by -> Nullable<Text>,
        reason -> Nullable<Text>,
        plan_id -> Nullable<BigInt>,
        mesh_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    mesh_mailbox (authority_id) {
        authority_id -> BigInt,
        mailbox -> Text,
        from_ms -> BigInt,
    }
}

diesel::table! {
    mesh_received (message_id) {
        message_id -> Text,
        state -> Text,
        mailbox -> Text,
        authority_id -> Nullable<BigInt>,
        outcome -> Nullable<Text>,
        attempts -> BigInt,
        received_ms -> BigInt,
        next_attempt_ms -> BigInt,
        handled_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    mesh_message (id) {
        id -> BigInt,
        uuid -> Text,
        kind -> Text,
        authority_id -> BigInt,
        state -> Text,
        attempts -> BigInt,
        reopened -> BigInt,
        next_attempt_ms -> BigInt,
        created_ms -> BigInt,
        sending_ms -> Nullable<BigInt>,
        sent_ms -> Nullable<BigInt>,
        mesh_id -> Nullable<Text>,
        last_error -> Nullable<Text>,
        reply_to -> Nullable<Text>,
        upload -> Nullable<Text>,
        file_code -> Nullable<Text>,
        file_number -> Nullable<BigInt>,
        records -> Nullable<BigInt>,
        refused -> Nullable<BigInt>,
        reason -> Nullable<Text>,
        body -> Nullable<Binary>,
    }
}

diesel::table! {
    mesh_message_notice (outbox_id) {
        outbox_id -> BigInt,
        message_id -> BigInt,
    }
}

diesel::table! {
    mesh_contact (mailbox) {
        mailbox -> Text,
        handshake_ms -> Nullable<BigInt>,
        ok_ms -> Nullable<BigInt>,
        failed_ms -> Nullable<BigInt>,
        error -> Nullable<Text>,
    }
}

diesel::table! {
    subscription (id) {
        id -> BigInt,
        uuid -> Text,
        authority_id -> BigInt,
        status -> Text,
        error -> Nullable<Text>,
        endpoint -> Text,
        headers -> Text,
        topic -> Text,
        reason -> Text,
        end_ms -> Nullable<BigInt>,
        version -> BigInt,
        created_ms -> BigInt,
        updated_ms -> BigInt,
        from_ms -> Nullable<BigInt>,
        caught_up -> Bool,
        events -> BigInt,
        attempts -> BigInt,
        next_attempt_ms -> BigInt,
        deleted -> Bool,
        topic_code -> Text,
        content -> Text,
        payload -> Text,
        heartbeat_seconds -> Nullable<BigInt>,
        timeout_seconds -> Nullable<BigInt>,
        max_count -> Nullable<BigInt>,
        heartbeat_at_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    delivery (id) {
        id -> BigInt,
        subscription_id -> BigInt,
        event_number -> BigInt,
        outbox_id -> BigInt,
        state -> Text,
        attempts -> BigInt,
        next_attempt_ms -> BigInt,
        delivered_ms -> Nullable<BigInt>,
        last_error -> Nullable<Text>,
    }
}

diesel::table! {
    asked_child (hour, author_key, child) {
        hour -> BigInt,
        author_key -> Text,
        child -> Text,
    }
}

diesel::table! {
    asked_alert (hour, author_key) {
        hour -> BigInt,
        author_key -> Text,
    }
}

diesel::table! {
    lease (name) {
        name -> Text,
        holder -> Text,
        until_ms -> BigInt,
        fencing -> BigInt,
    }
}

diesel::table! {
    audit_chain (id) {
        id -> BigInt,
        process -> Text,
        opened_ms -> BigInt,
        lease_until_ms -> BigInt,
        head_seq -> BigInt,
        head_link -> Binary,
        closed -> Bool,
    }
}

diesel::table! {
    audit_event (month, id) {
        id -> BigInt,
        month -> Integer,
        chain -> BigInt,
        seq -> BigInt,
        format_version -> BigInt,
        recorded_ms -> BigInt,
        content -> Binary,
        content_hash -> Binary,
        link -> Binary,
        patient -> Nullable<Text>,
        agent -> Nullable<Text>,
        agent_name -> Nullable<Text>,
        agent_role -> Nullable<Text>,
        organization -> Nullable<Text>,
        site -> Nullable<Text>,
        action -> Nullable<Text>,
        outcome -> Nullable<Text>,
        event_type -> Text,
        subtype -> Text,
        request_id -> Nullable<Text>,
        entity -> Nullable<Text>,
    }
}

diesel::table! {
    audit_checkpoint (number) {
        number -> BigInt,
        at_ms -> BigInt,
        content -> Binary,
        hash -> Binary,
        signature -> Binary,
        key_id -> Text,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    organization,
    organization_version,
    succession,
    client,
    register_entry,
    person,
    alias,
    retrace_pace,
    trace_result,
    upload,
    upload_record,
    authority_child,
    authority_child_version,
    plan,
    plan_version,
    access,
    access_listing,
    outbox,
    mesh_mailbox,
    mesh_received,
    mesh_message,
    mesh_message_notice,
    mesh_contact,
    subscription,
    delivery,
    asked_child,
    asked_alert,
    lease,
    audit_chain,
    audit_event,
    audit_checkpoint,
);

diesel::joinable!(authority_child -> person (person_id));
diesel::joinable!(authority_child_version -> upload (upload_id));
diesel::joinable!(plan -> authority_child (child_id));
diesel::joinable!(plan_version -> upload (upload_id));
diesel::joinable!(upload_record -> upload (upload_id));
diesel::joinable!(access_listing -> access (access_id));
diesel::joinable!(delivery -> outbox (outbox_id));
diesel::joinable!(delivery -> subscription (subscription_id));
diesel::joinable!(mesh_message_notice -> mesh_message (message_id));
diesel::joinable!(mesh_message_notice -> outbox (outbox_id));

diesel::allow_columns_to_appear_in_same_group_by_clause!(delivery::state, outbox::kind, subscription::status);
