/* One request message to one address, as it is, and its reply: for the programs, where the client
 * does too much. Opens a connection for each call; waits. */
#ifndef JUMUN_SDK_RAW_CALL_H
#define JUMUN_SDK_RAW_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True with *reply malloc'ed; false with a sentence in error, and *sent says whether the request
 * may have arrived. Waits at most timeout_ms in all. */
bool raw_call(const char *address, uint32_t timeout_ms, const void *request, size_t bytes,
              void **reply, size_t *reply_bytes, bool *sent, char *error, size_t error_bytes);

#endif
