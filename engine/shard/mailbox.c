#include "engine/shard/mailbox.h"

void mailbox_init(struct mailbox *m, uint32_t commands_max, uint64_t bytes_max) {
    atomic_init(&m->top, NULL);
    atomic_init(&m->commands, 0);
    atomic_init(&m->bytes, 0);
    atomic_init(&m->refused, 0);
    atomic_init(&m->admit_max, commands_max);
    m->commands_max = commands_max;
    m->bytes_max = bytes_max;
    m->taken = NULL;
}

bool mailbox_push(struct mailbox *m, struct request_part *part) {
    /* Count first, look afterwards: two producers can then never both slip under the bound. */
    uint32_t commands =
        atomic_fetch_add_explicit(&m->commands, part->count, memory_order_relaxed) + part->count;
    uint64_t bytes =
        atomic_fetch_add_explicit(&m->bytes, part->bytes, memory_order_relaxed) + part->bytes;
    uint32_t admit_max = atomic_load_explicit(&m->admit_max, memory_order_relaxed);
    if (commands > admit_max || bytes > m->bytes_max) {
        atomic_fetch_add_explicit(&m->refused, part->count, memory_order_relaxed);
        mailbox_consumed(m, part->count, part->bytes);
        return false;
    }
    struct request_part *top = atomic_load_explicit(&m->top, memory_order_relaxed);
    do {
        part->next = top;
    } while (!atomic_compare_exchange_weak_explicit(&m->top, &top, part, memory_order_release,
                                                    memory_order_relaxed));
    return true;
}

void mailbox_admit(struct mailbox *m, uint32_t commands) {
    if (commands > m->commands_max) commands = m->commands_max;
    atomic_store_explicit(&m->admit_max, commands, memory_order_relaxed);
}

struct request_part *mailbox_peek(struct mailbox *m) {
    if (m->taken) return m->taken;
    struct request_part *p = atomic_exchange_explicit(&m->top, NULL, memory_order_acquire);
    while (p) {
        struct request_part *next = p->next;
        p->next = m->taken;
        m->taken = p;
        p = next;
    }
    return m->taken;
}

struct request_part *mailbox_take(struct mailbox *m) {
    struct request_part *p = mailbox_peek(m);
    if (p) {
        m->taken = p->next;
        p->next = NULL;
    }
    return p;
}

void mailbox_consumed(struct mailbox *m, uint32_t commands, uint64_t bytes) {
    atomic_fetch_sub_explicit(&m->commands, commands, memory_order_relaxed);
    atomic_fetch_sub_explicit(&m->bytes, bytes, memory_order_relaxed);
}
