/* Results -> one nng message, encoded in place. Any thread; nothing blocks. */
#ifndef JUMUN_EGRESS_REPLY_MESSAGE_H
#define JUMUN_EGRESS_REPLY_MESSAGE_H

#include <nng/nng.h>

#include "engine/shard/request.h"
#include "engine/wire/reply_encode.h"

/* The reply to a request whose results are all final; NULL without memory. The values of the
 * results stay the request's. `hints` may be NULL. */
nng_msg *reply_message(const struct request *request, const struct reply_hints *hints);

/* The reply that refuses a whole message; NULL without memory. */
nng_msg *reply_refusal(enum result_code code);

#endif
