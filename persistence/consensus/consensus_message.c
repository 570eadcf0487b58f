/* Messages that came from elsewhere: one block each, with the records' references in it. */
#include <stdlib.h>

#include "persistence/consensus/consensus_private.h"

struct consensus_message *consensus_message_new(const struct consensus_message *fields,
                                                uint32_t records_count) {
    struct consensus_message *m = calloc(1, sizeof *m + records_count * sizeof(struct record *));
    if (m == NULL) return NULL;
    struct record **records = (struct record **)(m + 1);
    *m = *fields;
    m->records = records_count > 0 ? records : NULL;
    m->records_count = records_count;
    for (uint32_t i = 0; fields->records != NULL && i < records_count; i++) {
        records[i] = fields->records[i];
        record_hold(records[i]);
    }
    return m;
}

void consensus_message_free(struct consensus_message *m) {
    if (m == NULL) return;
    for (uint32_t i = 0; i < m->records_count; i++) {
        if (m->records[i] != NULL) record_release(m->records[i]);
    }
    free(m);
}
