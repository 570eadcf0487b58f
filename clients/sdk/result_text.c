/* Codes in words: the engine's table and the library's own codes. */
#include "actors/result_codes.h"
#include "clients/sdk/jumun.h"

#define LIBRARY_CODES(X)                                                                           \
    X(OUTCOME_UNKNOWN, "outcome_unknown", "sent, but no answer came in time: ask with the id")     \
    X(NOT_SENT, "not_sent", "not done: no connection to the node within the timeout")              \
    X(CIRCUIT_OPEN, "circuit_open", "not done: the endpoint failed too often just now")            \
    X(QUEUE_FULL, "queue_full", "not done: as many commands as allowed are waiting already")       \
    X(BAD_ARGUMENT, "bad_argument", "not done: an argument cannot be used")                        \
    X(CLOSED, "closed", "the client was closed")                                                   \
    X(BAD_REPLY, "bad_reply", "the peer does not speak this protocol")                             \
    X(NO_MEMORY, "no_memory", "not done: no memory")                                               \
    X(NOT_A_REPLICA, "not_a_replica", "a node answers there, not a replica")                       \
    X(OTHER_CLUSTER, "other_cluster", "the replicas there follow another cluster than the session")

_Static_assert((int)RESULT_OK == JUMUN_OK && (int)RESULT_HELD == JUMUN_HELD, "frozen numbers");
_Static_assert((int)RESULT_OVERLOADED == JUMUN_OVERLOADED, "frozen numbers");
_Static_assert((int)RESULT_ORDER_NOT_FOUND == JUMUN_ORDER_NOT_FOUND, "frozen numbers");
_Static_assert((int)RESULT_VERSION_CONFLICT == JUMUN_VERSION_CONFLICT, "frozen numbers");

const char *jumun_result_text(int code) {
    switch (code) {
#define X(name, number, text)                                                                      \
    case number: return text;
        RESULT_CODES(X)
#undef X
#define X(code_name, name, text)                                                                   \
    case JUMUN_##code_name: return text;
        LIBRARY_CODES(X)
#undef X
    default: return "unknown result code";
    }
}

/* The engine's table has its names in capitals: lowered once, before main(), so that no thread
 * sees them change. */
static char lower_names[][40] = {
#define X(name, number, text) #name,
    RESULT_CODES(X)
#undef X
};

static const int lower_numbers[] = {
#define X(name, number, text) number,
    RESULT_CODES(X)
#undef X
};

__attribute__((constructor)) static void result_text_lower_names(void) {
    for (unsigned i = 0; i < sizeof lower_names / sizeof lower_names[0]; i++)
        for (char *c = lower_names[i]; *c; c++)
            if (*c >= 'A' && *c <= 'Z') *c = (char)(*c - 'A' + 'a');
}

const char *jumun_result_name(int code) {
    switch (code) {
#define X(code_name, name, text)                                                                   \
    case JUMUN_##code_name: return name;
        LIBRARY_CODES(X)
#undef X
    default: break;
    }
    for (unsigned i = 0; i < sizeof lower_numbers / sizeof lower_numbers[0]; i++)
        if (lower_numbers[i] == code) return lower_names[i];
    return "unknown";
}

const char *jumun_version(void) { return JUMUN_VERSION; }
