#include "clients/cli/names.h"

#include <string.h>

static const struct {
    const char *words[8]; /* [number - 1] */
    const char *all;
} names_table[] = {
    [NAMES_FULFILMENT] = {{"platform_delivery", "store_delivery", "pickup", "parcel"},
                          "platform_delivery|store_delivery|pickup|parcel"},
    [NAMES_TIMING] = {{"prepaid", "on_delivery"}, "prepaid|on_delivery"},
    [NAMES_PAYMENT_STATE] = {{"authorised", "captured", "failed"}, "authorised|captured|failed"},
    [NAMES_PARTY] = {{"customer", "store", "rider", "support", "system"},
                     "customer|store|rider|support|system"},
};

static bool names_equal(const char *a, const char *b) {
    for (; *a && *b; a++, b++) {
        if (*a != *b && !(*a == '-' && *b == '_')) return false;
    }
    return *a == *b;
}

int names_parse(enum names_kind kind, const char *word) {
    for (int i = 0; word && i < 8 && names_table[kind].words[i]; i++) {
        if (names_equal(word, names_table[kind].words[i])) return i + 1;
    }
    return 0;
}

const char *names_word(enum names_kind kind, int number) {
    if (number < 1 || number > 8 || !names_table[kind].words[number - 1]) return "?";
    return names_table[kind].words[number - 1];
}

const char *names_all(enum names_kind kind) { return names_table[kind].all; }
