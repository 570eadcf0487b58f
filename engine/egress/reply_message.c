#include "engine/egress/reply_message.h"

nng_msg *reply_message(const struct request *request, const struct reply_hints *hints) {
    nng_msg *message;
    size_t room = reply_bytes_max(request->results, request->commands_count);
    if (nng_msg_alloc(&message, room) != 0) return NULL;
    size_t used = reply_encode(request->results, request->commands_count, hints,
                               nng_msg_body(message), room);
    nng_msg_chop(message, room - used);
    return message;
}

nng_msg *reply_refusal(enum result_code code) {
    nng_msg *message;
    if (nng_msg_alloc(&message, REPLY_REFUSED_BYTES_MAX) != 0) return NULL;
    size_t used = reply_encode_refused(code, nng_msg_body(message), REPLY_REFUSED_BYTES_MAX);
    nng_msg_chop(message, REPLY_REFUSED_BYTES_MAX - used);
    return message;
}
