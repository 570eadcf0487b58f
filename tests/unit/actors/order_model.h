/* A naive model of the order rules, written from docs/order-states.md and not from the code: plain
 * arrays, one field per deadline, everything worked out anew after each step. */
#ifndef JUMUN_TESTS_ORDER_MODEL_H
#define JUMUN_TESTS_ORDER_MODEL_H

#include <stdbool.h>
#include <stdint.h>

enum { MODEL_LINES = 6, MODEL_CUTS = 4, MODEL_PARTS = 16, MODEL_HELD = 8, MODEL_IDS = 256 };

struct model_line {
    int64_t quantity, cancelled, price;
};

/* Everything that a command of the model's small world can say. */
struct model_command {
    uint64_t id;
    int kind;
    uint32_t expected;
    int fulfilment, timing;
    bool bad_currency;
    struct model_line lines[MODEL_LINES];
    int lines_count;
    int64_t fees, discounts, total;
    int pay_state, by;
    char reference;
    int64_t amount;
    struct { int line; int64_t quantity; } cuts[MODEL_CUTS];
    int cuts_count;
    int minutes, rider;
};

struct model_answer {
    int code;
    bool repeated;
    uint32_t version;
};

struct model_memory {
    uint64_t id;
    int kind, code;
    uint32_t version;
};

struct model_part {
    char reference;
    int64_t amount;
    int state;
};

struct model {
    int64_t birth_ms;
    bool exists, placed, retired;
    int state, fulfilment, timing, rider, notes, ended_by;
    uint32_t version;
    struct model_line lines[MODEL_LINES];
    int lines_count;
    int64_t fees, discounts, refunded;
    struct model_part parts[MODEL_PARTS];
    int parts_count;
    int64_t pay_by, accept_by, complete_by, refund_by, forget_by, held_until, ready_at;
    struct model_command held[MODEL_HELD];
    int held_count;
    struct model_memory ids[MODEL_IDS];
    int ids_count;
};

int64_t model_lines_total(const struct model *m);
int64_t model_total(const struct model *m);
int64_t model_captured(const struct model *m);
int64_t model_owed(const struct model *m);
int64_t model_next_deadline(const struct model *m);

struct model_answer model_do(struct model *m, const struct model_command *c, int64_t now,
                             bool store_paused);
/* The engine looks at the clock: at most one deadline fires. */
void model_tick(struct model *m, int64_t now);
/* The engine acts on the oldest held command of a placed order. */
void model_resolve(struct model *m, int64_t now);

#endif
