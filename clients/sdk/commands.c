/* The synchronous calls, one a kind of command. */
#include "clients/sdk/jumun.h"

static jumun_command command_of(jumun_kind kind, const jumun_key *order,
                                const jumun_options_command *options) {
    jumun_command c = {.kind = kind};
    if (order) c.order = *order;
    if (options) c.options = *options;
    return c;
}

static int run(jumun_client *client, const jumun_command *command, jumun_result *result) {
    return jumun_call(client, command, result, NULL, NULL);
}

int jumun_place_order(jumun_client *client, const jumun_key *order, const jumun_place *place,
                      const jumun_options_command *options, jumun_result *result) {
    jumun_command c = command_of(JUMUN_PLACE, order, options);
    c.place = *place;
    return run(client, &c, result);
}

int jumun_pay_order(jumun_client *client, const jumun_key *order, const jumun_pay *pay,
                    const jumun_options_command *options, jumun_result *result) {
    jumun_command c = command_of(JUMUN_PAY, order, options);
    c.pay = *pay;
    return run(client, &c, result);
}

int jumun_accept_order(jumun_client *client, const jumun_key *order, int64_t preparation_minutes,
                       const jumun_options_command *options, jumun_result *result) {
    jumun_command c = command_of(JUMUN_ACCEPT, order, options);
    c.accept.preparation_minutes = preparation_minutes;
    return run(client, &c, result);
}

int jumun_reject_order(jumun_client *client, const jumun_key *order, const char *reason,
                       const jumun_options_command *options, jumun_result *result) {
    jumun_command c = command_of(JUMUN_REJECT, order, options);
    c.reject.reason = reason;
    return run(client, &c, result);
}

int jumun_assign_rider(jumun_client *client, const jumun_key *order, const char *rider,
                       const jumun_options_command *options, jumun_result *result) {
    jumun_command c = command_of(JUMUN_ASSIGN_RIDER, order, options);
    c.assign_rider.rider = rider;
    return run(client, &c, result);
}

#define COMMAND_WITHOUT_BODY(function, kind)                                                       \
    int function(jumun_client *client, const jumun_key *order,                                     \
                 const jumun_options_command *options, jumun_result *result) {                     \
        jumun_command c = command_of(kind, order, options);                                        \
        return run(client, &c, result);                                                            \
    }

COMMAND_WITHOUT_BODY(jumun_mark_ready, JUMUN_MARK_READY)
COMMAND_WITHOUT_BODY(jumun_unassign_rider, JUMUN_UNASSIGN_RIDER)
COMMAND_WITHOUT_BODY(jumun_pick_up, JUMUN_PICK_UP)
COMMAND_WITHOUT_BODY(jumun_deliver, JUMUN_DELIVER)
COMMAND_WITHOUT_BODY(jumun_complete, JUMUN_COMPLETE)

int jumun_cancel_order(jumun_client *client, const jumun_key *order, const jumun_cancel *cancel,
                       const jumun_options_command *options, jumun_result *result) {
    jumun_command c = command_of(JUMUN_CANCEL, order, options);
    c.cancel = *cancel;
    return run(client, &c, result);
}

int jumun_refund(jumun_client *client, const jumun_key *order, int64_t amount, const char *reason,
                 const jumun_options_command *options, jumun_result *result) {
    jumun_command c = command_of(JUMUN_REFUND, order, options);
    c.refund.amount = amount;
    c.refund.reason = reason;
    return run(client, &c, result);
}

int jumun_amend_order(jumun_client *client, const jumun_key *order, const jumun_amend *amend,
                      const jumun_options_command *options, jumun_result *result) {
    jumun_command c = command_of(JUMUN_AMEND, order, options);
    c.amend = *amend;
    return run(client, &c, result);
}

int jumun_annotate(jumun_client *client, const jumun_key *order, const char *note,
                   const jumun_options_command *options, jumun_result *result) {
    jumun_command c = command_of(JUMUN_ANNOTATE, order, options);
    c.annotate.note = note;
    return run(client, &c, result);
}

int jumun_store_pause(jumun_client *client, const char *store, const char *reason,
                      const jumun_options_command *options, jumun_result *result) {
    jumun_command c = command_of(JUMUN_STORE_PAUSE, NULL, options);
    c.store_id = store;
    c.store_pause.reason = reason;
    return run(client, &c, result);
}

int jumun_store_resume(jumun_client *client, const char *store,
                       const jumun_options_command *options, jumun_result *result) {
    jumun_command c = command_of(JUMUN_STORE_RESUME, NULL, options);
    c.store_id = store;
    return run(client, &c, result);
}
