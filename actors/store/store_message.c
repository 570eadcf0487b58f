/* The msgpack of the messages between shards, by hand: ten encodings are all it needs. */
#include "actors/store/store_layout.h"
#include "engine/limits.h"

/* -- writing ------------------------------------------------------------------------------- */

struct store_writer {
    uint8_t *at, *end;
    bool full;
};

static void store_put(struct store_writer *w, const void *bytes, uint32_t size) {
    if (w->full || (size_t)(w->end - w->at) < size) {
        w->full = true;
        return;
    }
    memcpy(w->at, bytes, size);
    w->at += size;
}

/* A tag and `width` big-endian bytes of `value`. */
static void store_put_tagged(struct store_writer *w, uint8_t tag, uint64_t value, uint32_t width) {
    uint8_t bytes[9] = {tag};
    for (uint32_t i = 0; i < width; i++) bytes[1 + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
    store_put(w, bytes, 1 + width);
}

static void store_put_array(struct store_writer *w, uint32_t count) {
    if (count < 16) {
        store_put_tagged(w, (uint8_t)(0x90 | count), 0, 0);
    } else {
        store_put_tagged(w, 0xdc, count, 2);
    }
}

static void store_put_uint(struct store_writer *w, uint32_t value) {
    if (value < 128) {
        store_put_tagged(w, (uint8_t)value, 0, 0);
    } else {
        store_put_tagged(w, 0xce, value, 4);
    }
}

static void store_put_int(struct store_writer *w, int32_t value) {
    if (value >= 0) {
        store_put_uint(w, (uint32_t)value);
    } else if (value >= -32) {
        store_put_tagged(w, (uint8_t)value, 0, 0);
    } else {
        store_put_tagged(w, 0xd2, (uint32_t)value, 4);
    }
}

static void store_put_text(struct store_writer *w, struct bytes text) {
    if (text.size < 32) {
        store_put_tagged(w, (uint8_t)(0xa0 | text.size), 0, 0);
    } else {
        store_put_tagged(w, 0xd9, text.size, 1);
    }
    store_put(w, text.data, text.size);
}

static void store_put_bin(struct store_writer *w, struct bytes bin) {
    store_put_tagged(w, 0xc5, bin.size, 2);
    store_put(w, bin.data, bin.size);
}

uint32_t store_message_encode_head(const struct store_message_head *head,
                                   const struct store_news *items, uint32_t count, uint8_t *out,
                                   uint32_t capacity) {
    struct store_writer w = {out, out + capacity, false};
    bool moved = head->kind == STORE_MESSAGE_MOVED;
    require(moved || head->kind == STORE_MESSAGE_ASKED || head->kind == STORE_MESSAGE_DONE);
    store_put_array(&w, moved ? 4 : 5);
    store_put_uint(&w, head->kind);
    store_put_tagged(&w, 0xcf, head->version, 8);
    store_put_uint(&w, head->shards);
    if (!moved) {
        store_put_uint(&w, head->what);
        store_put_tagged(&w, 0xcf, head->asked, 8);
        return w.full ? 0 : (uint32_t)(w.at - out);
    }
    require(count <= STORE_MESSAGE_ITEMS_MAX);
    store_put_array(&w, count);
    for (uint32_t i = 0; i < count; i++) {
        store_put_array(&w, 2);
        store_put_text(&w, items[i].store);
        store_put_bin(&w, items[i].block);
    }
    return w.full ? 0 : (uint32_t)(w.at - out);
}

uint32_t store_message_encode(uint8_t kind, const struct store_news *items, uint32_t count,
                              uint8_t *out, uint32_t capacity) {
    struct store_writer w = {out, out + capacity, false};
    require(kind == STORE_MESSAGE_COUNTS || kind == STORE_MESSAGE_STATUS);
    require(count <= STORE_MESSAGE_ITEMS_MAX);
    store_put_array(&w, 2);
    store_put_uint(&w, kind);
    store_put_array(&w, count);
    for (uint32_t i = 0; i < count; i++) {
        require(items[i].store.size >= 1 && items[i].store.size <= ID_TEXT_BYTES_MAX);
        store_put_array(&w, 3);
        store_put_text(&w, items[i].store);
        if (kind == STORE_MESSAGE_COUNTS) {
            store_put_int(&w, items[i].open_change);
            store_put_uint(&w, items[i].placed);
        } else {
            store_put_tagged(&w, items[i].paused ? 0xc3 : 0xc2, 0, 0);
            store_put_uint(&w, items[i].version);
        }
    }
    return w.full ? 0 : (uint32_t)(w.at - out);
}

/* -- reading ------------------------------------------------------------------------------- */

struct store_reader {
    const uint8_t *at, *end;
    bool bad;
};

static uint8_t store_take_byte(struct store_reader *r) {
    if (r->bad || r->at == r->end) {
        r->bad = true;
        return 0;
    }
    return *r->at++;
}

static uint64_t store_take_big_endian(struct store_reader *r, uint32_t width) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < width; i++) value = value << 8 | store_take_byte(r);
    return value;
}

static uint32_t store_take_array(struct store_reader *r) {
    uint8_t tag = store_take_byte(r);
    if ((tag & 0xf0) == 0x90) return tag & 0x0f;
    if (tag == 0xdc) return (uint32_t)store_take_big_endian(r, 2);
    if (tag == 0xdd) return (uint32_t)store_take_big_endian(r, 4);
    r->bad = true;
    return 0;
}

/* Any integer of msgpack within min..max. */
static int64_t store_take_int(struct store_reader *r, int64_t min, int64_t max) {
    uint8_t tag = store_take_byte(r);
    int64_t value = 0;
    if (tag < 0x80) {
        value = tag;
    } else if (tag >= 0xe0) {
        value = (int8_t)tag;
    } else if (tag >= 0xcc && tag <= 0xcf) {
        uint64_t big = store_take_big_endian(r, 1u << (tag - 0xcc));
        value = big > INT64_MAX ? INT64_MAX : (int64_t)big;
    } else if (tag >= 0xd0 && tag <= 0xd3) {
        uint32_t bits = 8u << (tag - 0xd0);
        uint64_t big = store_take_big_endian(r, bits / 8);
        uint64_t sign = 1ULL << (bits - 1);
        value = (int64_t)((big ^ sign) - sign);
    } else {
        r->bad = true;
    }
    if (value < min || value > max) r->bad = true;
    return value;
}

static bool store_take_bool(struct store_reader *r) {
    uint8_t tag = store_take_byte(r);
    if (tag != 0xc2 && tag != 0xc3) r->bad = true;
    return tag == 0xc3;
}

static struct bytes store_take_text(struct store_reader *r) {
    uint8_t tag = store_take_byte(r);
    uint64_t size = 0;
    if ((tag & 0xe0) == 0xa0) {
        size = tag & 0x1f;
    } else if (tag >= 0xd9 && tag <= 0xdb) {
        size = store_take_big_endian(r, 1u << (tag - 0xd9));
    } else {
        r->bad = true;
    }
    if (size < 1 || size > ID_TEXT_BYTES_MAX || size > (uint64_t)(r->end - r->at)) r->bad = true;
    if (r->bad) return (struct bytes){NULL, 0};
    struct bytes text = bytes_of(r->at, size);
    r->at += size;
    return text;
}

/* A store's block as it lies in memory, or nothing. */
static struct bytes store_take_block(struct store_reader *r, struct bytes id) {
    _Alignas(8) uint8_t block[STORE_BLOCK_BYTES_MAX];
    if (store_take_byte(r) != 0xc5) r->bad = true;
    uint64_t size = store_take_big_endian(r, 2);
    if (r->bad || size > sizeof block || size > (uint64_t)(r->end - r->at)) {
        r->bad = true;
        return (struct bytes){NULL, 0};
    }
    memcpy(block, r->at, size);
    const struct store *store = (const struct store *)(const void *)block;
    if (!store_is_well_formed(block, (uint32_t)size) || store->actor.kind != ACTOR_STORE ||
        !bytes_equal(id, bytes_of(store + 1, store->id_bytes)))
        r->bad = true;
    struct bytes taken = bytes_of(r->at, (uint32_t)size);
    r->at += size;
    return taken;
}

static struct store_news store_take_item(struct store_reader *r, uint8_t kind) {
    struct store_news item = {0};
    if (store_take_array(r) != (kind == STORE_MESSAGE_MOVED ? 2 : 3)) r->bad = true;
    item.store = store_take_text(r);
    if (kind == STORE_MESSAGE_MOVED) {
        if (!r->bad) item.block = store_take_block(r, item.store);
    } else if (kind == STORE_MESSAGE_COUNTS) {
        item.open_change = (int32_t)store_take_int(r, INT32_MIN, INT32_MAX);
        item.placed = (uint32_t)store_take_int(r, 0, UINT32_MAX);
    } else {
        item.paused = store_take_bool(r);
        item.version = (uint32_t)store_take_int(r, 0, UINT32_MAX);
    }
    return item;
}

/* Everything in front of the items. */
static struct store_message_head store_take_head(struct store_reader *r) {
    struct store_message_head head = {0};
    uint32_t fields = store_take_array(r);
    head.kind = (uint8_t)store_take_int(r, STORE_MESSAGE_COUNTS, STORE_MESSAGE_DONE);
    uint32_t wanted = head.kind <= STORE_MESSAGE_STATUS ? 2
                      : head.kind == STORE_MESSAGE_MOVED ? 4 : 5;
    if (fields != wanted) r->bad = true;
    if (wanted == 2 || r->bad) return head;
    head.version = (uint64_t)store_take_int(r, 1, INT64_MAX);
    head.shards = (uint32_t)store_take_int(r, 1, SHARDS_MAX);
    if (wanted == 4) return head;
    head.what = (uint8_t)store_take_int(r, STORE_ASK_BOARDS, STORE_ASK_STORES);
    head.asked = (uint64_t)store_take_int(r, 1, INT64_MAX);
    return head;
}

bool store_message_head(struct bytes message, struct store_message_head *head) {
    const uint8_t *bytes = message.data;
    if (message.size == 0) return false;
    struct store_reader r = {bytes, bytes + message.size, false};
    *head = store_take_head(&r);
    return !r.bad;
}

bool store_message_decode(struct bytes message, uint8_t *kind,
                          bool (*visit)(void *arg, const struct store_news *item), void *arg) {
    if (message.size == 0) return false;
    const uint8_t *bytes = message.data;
    struct store_reader r = {bytes, bytes + message.size, false};
    *kind = store_take_head(&r).kind;
    if (r.bad) return false;
    if (*kind >= STORE_MESSAGE_ASKED) return r.at == r.end;
    uint32_t count = store_take_array(&r);
    if (r.bad || count > STORE_MESSAGE_ITEMS_MAX) return false;
    struct store_reader items = r;
    for (uint32_t i = 0; i < count && !r.bad; i++) store_take_item(&r, *kind);
    if (r.bad || r.at != r.end) return false;
    for (uint32_t i = 0; i < count; i++) {
        struct store_news item = store_take_item(&items, *kind);
        if (!visit(arg, &item)) return false;
    }
    return true;
}
