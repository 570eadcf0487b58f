/* Every state x every command x every fulfilment x payment timing. What is expected is written down
 * here from the rules, not from the table that the code uses; the page of the rules, the argument
 * (docs/order-states.md), is held to it too. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

#include "actors/order/order_states.h"
#include "tests/lib/page.h"
#include "tests/unit/actors/order_world.h"

/* One letter per command, in the order of their numbers:
 *   place pay accept reject mark_ready assign unassign pick_up deliver complete cancel refund amend
 *   annotate
 * .  done                        X  ORDER_EXISTS              B  ORDER_EXPIRED_BEFORE_PLACED
 * N  NOT_ALLOWED_IN_STATE        E  ORDER_HAS_ENDED           0  ORDER_NOT_FOUND
 * F  NOT_ALLOWED_FOR_FULFILMENT  H  HELD                      U  RIDER_NOT_ASSIGNED
 * $  NOTHING_TO_REFUND           p  prepaid: PAYMENT_REQUIRED, on delivery: done
 *                                r  prepaid: done, on delivery: NOTHING_TO_REFUND
 * The orders are those of world_bring_to(): platform deliveries have a rider from ACCEPTED on, only
 * prepaid ones and those in PAID have captured money, ends but COMPLETED come from PLACED. */
static const char *const expected[FULFILMENT_PARCEL + 1][ORDER_EXPIRED + 1] = {
    [FULFILMENT_PLATFORM_DELIVERY] =
        {
            [0] = ".H00000000H000",
            [ORDER_AWAITED] = ".H00000000H000",
            [ORDER_PLACED] = "X.p.N.UNNN.$..",
            [ORDER_PAID] = "X...N.UNNN....",
            [ORDER_ACCEPTED] = "X.NN....NN.rN.",
            [ORDER_READY] = "X.NNN...NN.rN.",
            [ORDER_PICKED_UP] = "X.NNNNNN.NNrN.",
            [ORDER_DELIVERED] = "X.NNNNNNN.NrN.",
            [ORDER_COMPLETED] = "X.EEEEEEEEErE.",
            [ORDER_REJECTED] = "X.EEEEEEEEE$E.",
            [ORDER_CANCELLED] = "X.EEEEEEEEE$E.",
            [ORDER_EXPIRED] = "X.EEEEEEEEE$E.",
        },
    [FULFILMENT_STORE_DELIVERY] =
        {
            [0] = ".H00000000H000",
            [ORDER_AWAITED] = ".H00000000H000",
            [ORDER_PLACED] = "X.p.N.UNNN.$..",
            [ORDER_PAID] = "X...N.UNNN....",
            [ORDER_ACCEPTED] = "X.NN..U.NN.rN.",
            [ORDER_READY] = "X.NNN.U.NN.rN.",
            [ORDER_PICKED_UP] = "X.NNNNNN.NNrN.",
            [ORDER_DELIVERED] = "X.NNNNNNN.NrN.",
            [ORDER_COMPLETED] = "X.EEEEEEEEErE.",
            [ORDER_REJECTED] = "X.EEEEEEEEE$E.",
            [ORDER_CANCELLED] = "X.EEEEEEEEE$E.",
            [ORDER_EXPIRED] = "X.EEEEEEEEE$E.",
        },
    [FULFILMENT_PICKUP] =
        {
            [0] = ".H00000000H000",
            [ORDER_AWAITED] = ".H00000000H000",
            [ORDER_PLACED] = "X.p.NFFNNN.$..",
            [ORDER_PAID] = "X...NFFNNN....",
            [ORDER_ACCEPTED] = "X.NN.FF.NN.rN.",
            [ORDER_READY] = "X.NNNFF.NN.rN.",
            [ORDER_PICKED_UP] = "X.NNNNNNF.NrN.",
            [ORDER_COMPLETED] = "X.EEEEEEEEErE.",
            [ORDER_REJECTED] = "X.EEEEEEEEE$E.",
            [ORDER_CANCELLED] = "X.EEEEEEEEE$E.",
            [ORDER_EXPIRED] = "X.EEEEEEEEE$E.",
        },
    [FULFILMENT_PARCEL] =
        {
            [0] = ".H00000000H000",
            [ORDER_AWAITED] = ".H00000000H000",
            [ORDER_PLACED] = "X.p.N.UNNN.$..",
            [ORDER_PAID] = "X...N.UNNN....",
            [ORDER_ACCEPTED] = "X.NN..U.NN.rN.",
            [ORDER_READY] = "X.NNN.U.NN.rN.",
            [ORDER_PICKED_UP] = "X.NNNNNN.N.rN.",
            [ORDER_DELIVERED] = "X.NNNNNNN..rN.",
            [ORDER_COMPLETED] = "X.EEEEEEEEErE.",
            [ORDER_REJECTED] = "X.EEEEEEEEE$E.",
            [ORDER_CANCELLED] = "X.EEEEEEEEE$E.",
            [ORDER_EXPIRED] = "X.EEEEEEEEE$E.",
        },
};

static uint16_t code_of_letter(char letter, uint8_t payment_timing) {
    bool prepaid = payment_timing == PAYMENT_PREPAID;
    switch (letter) {
    case '.': return RESULT_OK;
    case 'X': return RESULT_ORDER_EXISTS;
    case 'B': return RESULT_ORDER_EXPIRED_BEFORE_PLACED;
    case 'N': return RESULT_NOT_ALLOWED_IN_STATE;
    case 'E': return RESULT_ORDER_HAS_ENDED;
    case '0': return RESULT_ORDER_NOT_FOUND;
    case 'F': return RESULT_NOT_ALLOWED_FOR_FULFILMENT;
    case 'H': return RESULT_HELD;
    case 'U': return RESULT_RIDER_NOT_ASSIGNED;
    case '$': return RESULT_NOTHING_TO_REFUND;
    case 'p': return prepaid ? RESULT_PAYMENT_REQUIRED : RESULT_OK;
    case 'r': return prepaid ? RESULT_OK : RESULT_NOTHING_TO_REFUND;
    default: fail_msg("no such letter: %c", letter);
    }
    return 0;
}

/* Where a command leads when it is done; commands beside the states leave them. */
static uint8_t state_after(uint8_t kind, uint8_t state) {
    switch (kind) {
    case COMMAND_PLACE: return ORDER_PLACED;
    case COMMAND_ACCEPT: return ORDER_ACCEPTED;
    case COMMAND_REJECT: return ORDER_REJECTED;
    case COMMAND_MARK_READY: return ORDER_READY;
    case COMMAND_PICK_UP: return ORDER_PICKED_UP;
    case COMMAND_DELIVER: return ORDER_DELIVERED;
    case COMMAND_COMPLETE: return ORDER_COMPLETED;
    case COMMAND_CANCEL: return state <= ORDER_AWAITED ? ORDER_AWAITED : ORDER_CANCELLED;
    case COMMAND_PAY: return state == 0 ? ORDER_AWAITED : state;
    default: return state;
    }
}

static struct command command_of_kind(struct world *w, uint8_t kind, uint8_t fulfilment,
                                      uint8_t payment_timing) {
    switch (kind) {
    case COMMAND_PLACE: return world_place(w, fulfilment, payment_timing);
    case COMMAND_PAY: return world_pay(w, PAYMENT_CAPTURED, "another", 50);
    case COMMAND_ASSIGN_RIDER: return world_rider(w, "rider-0008");
    case COMMAND_CANCEL: return world_cancel(w, PARTY_SUPPORT, NULL, 0);
    case COMMAND_REFUND: return world_refund(w, 0);
    case COMMAND_AMEND: return world_amend(w, world_lines, 3, 300, 100, 3700);
    default: {
        struct command c = world_command(w, kind);
        if (kind == COMMAND_ANNOTATE) c.annotate.note = bytes_of_text("ring twice");
        return c;
    }
    }
}

static void check_cell(uint8_t fulfilment, uint8_t payment_timing, uint8_t state, uint8_t kind) {
    struct world w;
    world_init(&w);
    if (state != 0 && !world_bring_to(&w, fulfilment, payment_timing, state)) {
        assert_null(expected[fulfilment][state]);
        world_fini(&w);
        return;
    }
    assert_int_equal(w.order ? w.order->state : 0, state);
    uint16_t code = code_of_letter(expected[fulfilment][state][kind - 1], payment_timing);
    uint32_t version = w.order ? w.order->version : 0;
    struct command command = command_of_kind(&w, kind, fulfilment, payment_timing);
    struct decision decision = world_decide(&w, &command);
    if (decision.code != code) {
        fail_msg("%s of a %s order, fulfilment %u, timing %u: got %s, expected %s",
                 command_kind_name(kind), order_state_name(state), fulfilment, payment_timing,
                 result_code_name(decision.code), result_code_name(code));
    }
    assert_false(decision.repeated);
    if (code == RESULT_OK || code == RESULT_HELD) {
        assert_int_equal(w.turn_events, 1);
        assert_int_equal(decision.version, version + 1);
        assert_int_equal(w.order->state, state_after(kind, state));
        assert_int_equal(world_event(&w, 0)->cause_kind, kind);
        assert_true(id128_equal(&world_event(&w, 0)->cause, &command.id));
    } else {
        assert_int_equal(w.turn_events, 0);
        assert_int_equal(decision.version, version);
    }
    world_check_fold(&w);
    world_fini(&w);
}

static void every_state_meets_every_command(void **unused) {
    for (uint8_t fulfilment = 1; fulfilment <= FULFILMENT_PARCEL; fulfilment++) {
        for (uint8_t timing = PAYMENT_PREPAID; timing <= PAYMENT_ON_DELIVERY; timing++) {
            for (uint8_t state = 0; state <= ORDER_EXPIRED; state++) {
                for (uint8_t kind = COMMAND_PLACE; kind <= COMMAND_ANNOTATE; kind++) {
                    check_cell(fulfilment, timing, state, kind);
                }
            }
        }
    }
}

static void never_placed_and_expired(void **unused) {
    static const char letters[] = "B.EEEEEEEEE$E.";
    for (uint8_t kind = COMMAND_PLACE; kind <= COMMAND_ANNOTATE; kind++) {
        struct world w;
        world_init(&w);
        assert_true(world_bring_to(&w, FULFILMENT_PARCEL, PAYMENT_PREPAID, ORDER_AWAITED));
        w.now_ms = w.order->next_deadline_ms;
        assert_int_equal(world_tick(&w), 1);
        assert_int_equal(w.order->state, ORDER_EXPIRED);
        struct command c = command_of_kind(&w, kind, FULFILMENT_PARCEL, PAYMENT_PREPAID);
        assert_int_equal(world_decide(&w, &c).code,
                         code_of_letter(letters[kind - 1], PAYMENT_PREPAID));
        world_fini(&w);
    }
}

static void platform_delivery_needs_a_rider(void **unused) {
    struct world w;
    world_init(&w);
    assert_true(world_bring_to(&w, FULFILMENT_PLATFORM_DELIVERY, PAYMENT_PREPAID, ORDER_READY));
    struct command c = world_command(&w, COMMAND_UNASSIGN_RIDER);
    assert_int_equal(world_do(&w, &c).code, RESULT_OK);
    assert_int_equal(world_view(&w).rider.size, 0);
    c = world_command(&w, COMMAND_PICK_UP);
    assert_int_equal(world_do(&w, &c).code, RESULT_RIDER_REQUIRED);
    c = world_rider(&w, "rider-0008");
    assert_int_equal(world_do(&w, &c).code, RESULT_OK);
    c = world_rider(&w, "r9");
    assert_int_equal(world_do(&w, &c).code, RESULT_OK);
    assert_true(bytes_equal(world_view(&w).rider, bytes_of_text("r9")));
    c = world_command(&w, COMMAND_PICK_UP);
    assert_int_equal(world_do(&w, &c).code, RESULT_OK);
    world_check_fold(&w);
    world_fini(&w);
}

static void reads_change_nothing(void **unused) {
    struct world w;
    world_init(&w);
    struct command get = world_command(&w, COMMAND_GET);
    struct command history = world_command(&w, COMMAND_HISTORY);
    assert_int_equal(world_decide(&w, &get).code, RESULT_ORDER_NOT_FOUND);
    assert_int_equal(world_decide(&w, &history).code, RESULT_ORDER_NOT_FOUND);
    assert_true(world_bring_to(&w, FULFILMENT_PICKUP, PAYMENT_PREPAID, ORDER_ACCEPTED));
    assert_int_equal(world_decide(&w, &get).code, RESULT_OK);
    assert_int_equal(world_decide(&w, &get).version, 3);
    assert_int_equal(world_decide(&w, &history).code, RESULT_OK);
    assert_int_equal(w.events_count, 3);
    world_fini(&w);
}

/* -- the page ------------------------------------------------------------------------------ */

static const char *states_page;

/* Takes the text up to the next '|' off *at, without blanks around it and a footnote's "(1)". */
static struct bytes next_cell(const char **at) {
    const char *from = *at + strspn(*at, "| "), *end = from + strcspn(from, "|\n");
    *at = end;
    const char *note = memchr(from, '(', (size_t)(end - from));
    if (note) end = note;
    while (end > from && end[-1] == ' ') end--;
    return bytes_of(from, (uint32_t)(end - from));
}

/* Whether a cell of the page says what `letter` says. The footnotes' own conditions ("prepaid:
 * PAYMENT_REQUIRED") are refinements of "ok". */
static bool cell_says(struct bytes cell, char letter, bool pickup, bool parcel) {
    bool refused = letter == 'N', done = strchr(".pUr$", letter) != NULL;
    if (bytes_equal(cell, bytes_of_text("ok"))) return done;
    if (bytes_equal(cell, bytes_of_text("ok F"))) return pickup ? letter == 'F' : done;
    if (bytes_equal(cell, bytes_of_text("pickup only"))) return pickup ? done : refused;
    if (bytes_equal(cell, bytes_of_text("parcel only"))) return parcel ? done : refused;
    if (bytes_equal(cell, bytes_of_text("-"))) return refused;
    return cell.size == 1 && letter == *(const char *)cell.data && strchr("EX0H", letter);
}

static void check_page_cell(uint8_t kind, uint8_t state, struct bytes cell) {
    for (uint8_t fulfilment = 1; fulfilment <= FULFILMENT_PARCEL; fulfilment++) {
        const char *row = expected[fulfilment][state];
        if (row && !cell_says(cell, row[kind - 1], fulfilment == FULFILMENT_PICKUP,
                              fulfilment == FULFILMENT_PARCEL)) {
            fail_msg("the page says \"%.*s\" of %s, %s, fulfilment %u; expected is '%c'",
                     (int)cell.size, (const char *)cell.data, command_kind_name(kind),
                     state ? order_state_name(state) : "none", fulfilment, row[kind - 1]);
        }
    }
}

static void the_page_shows_this_table(void **unused) {
    static const char heading[] = "| command | none | AWAITED | PLACED | PAID | ACCEPTED | READY |"
                                  " PICKED_UP | DELIVERED | ended |\n";
    char *page = page_read(states_page);
    assert_non_null(page);
    const char *at = strstr(page, heading);
    assert_non_null(at);
    at = strchr(at + strlen(heading), '\n') + 1; /* behind the rule below the heading */
    for (uint8_t kind = COMMAND_PLACE; kind <= COMMAND_ANNOTATE; kind++) {
        struct bytes name = next_cell(&at);
        const char *word = command_kind_name(kind);
        assert_true(name.size >= strlen(word) && memcmp(name.data, word, strlen(word)) == 0);
        for (uint8_t state = 0; state <= ORDER_DELIVERED; state++) {
            check_page_cell(kind, state, next_cell(&at));
        }
        struct bytes ended = next_cell(&at);
        for (uint8_t state = ORDER_COMPLETED; state <= ORDER_EXPIRED; state++) {
            check_page_cell(kind, state, ended);
        }
        at = strchr(at, '\n') + 1;
    }
    assert_int_equal(*at, '\n'); /* no row more */
    free(page);
}

int main(int argc, char **argv) {
    if (argc != 2) return EXIT_FAILURE;
    states_page = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_state_meets_every_command),
        cmocka_unit_test(never_placed_and_expired),
        cmocka_unit_test(platform_delivery_needs_a_rider),
        cmocka_unit_test(reads_change_nothing),
        cmocka_unit_test(the_page_shows_this_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
