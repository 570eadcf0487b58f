#include "clients/sdk/query_answer.h"

#include <stdlib.h>
#include <string.h>

static const void *put(uint8_t **at, const void *data, size_t bytes) {
    if (!data) return NULL;
    uint8_t *to = *at;
    if (bytes) memcpy(to, data, bytes);
    *at += (bytes + 7) & ~(size_t)7;
    return to;
}

jumun_answer *query_answer_copy(const jumun_answer *a, size_t *bytes) {
    size_t tokens = a->tokens_count * sizeof *a->tokens;
    size_t missing = a->missing_count * sizeof *a->missing;
    size_t replica = strlen(a->replica ? a->replica : "") + 1;
    size_t all = sizeof *a + a->value_bytes + a->cursor_bytes + tokens + missing + replica + 40;
    jumun_answer *copy = malloc(all);
    if (bytes) *bytes = all;
    if (!copy) return NULL;
    *copy = *a;
    uint8_t *at = (uint8_t *)(copy + 1);
    copy->tokens = put(&at, a->tokens, tokens);
    copy->missing = put(&at, a->missing, missing);
    copy->value = put(&at, a->value, a->value_bytes);
    copy->cursor = put(&at, a->cursor, a->cursor_bytes);
    copy->replica = put(&at, a->replica ? a->replica : "", replica);
    return copy;
}

void jumun_answer_free(jumun_answer *answer) { free(answer); }
