//! The bindings of a kernel and the functions that it reads and writes them with.

use crate::{Access, MatrixRead, PoolForm, PoolRead, Slot, Spec, Storage};
use std::fmt::Write;

/// Writes the bindings and accessors of every operand.
pub(crate) fn write(text: &mut String, spec: &Spec) {
    let mut binding = 0;
    for slot in &spec.slots {
        // Writing into a string does not fail.
        let _ = declare(text, slot, &mut binding);
        let _ = words(text, slot, spec.window.0 / 4);
        if slot.access != Access::Write {
            let _ = load(text, slot);
        }
        if slot.access != Access::Read {
            let _ = store(text, slot);
        }
        if let Some(matrix) = &slot.matrix {
            let _ = read_matrix(text, slot, matrix);
        }
        if let Some(pool) = &slot.pool {
            let _ = read_pool(text, slot, pool);
        }
    }
}

/// Whether several invocations may own parts of one word, which is then an atomic.
fn shared_words(slot: &Slot) -> bool {
    slot.access != Access::Read && slot.storage.bits() < 32
}

fn declare(text: &mut String, slot: &Slot, binding: &mut u32) -> std::fmt::Result {
    let access = if slot.access == Access::Read { "read" } else { "read_write" };
    let word = match slot.together() {
        _ if shared_words(slot) => "atomic<u32>".into(),
        1 => "u32".to_string(),
        n => format!("vec{n}<u32>"),
    };
    for window in 0..slot.windows {
        let name = slot.name;
        writeln!(text, "@group(0) @binding({binding}) var<storage, {access}> {name}_{window}: array<{word}>;")?;
        *binding += 1;
    }
    Ok(())
}

/// `NAME_word(i)` and `NAME_put(i, word)`, whichever window word `i` lies in; `NAME_merge(i, mask, bits)` for words that
/// several invocations own parts of; `NAME_words(i)`, the `i`th of the vectors that words are loaded in.
fn words(text: &mut String, slot: &Slot, window: u64) -> std::fmt::Result {
    let Slot { name, windows, skipped, .. } = slot;
    if *windows == 0 {
        return Ok(());
    }
    let together = slot.together();
    let window = window / u64::from(together);
    // One window needs no choice; its size is no power of two.
    let choose = |text: &mut String, f: &dyn Fn(u32, &str) -> String| -> std::fmt::Result {
        if *windows == 1 {
            return writeln!(text, "    {}", f(0, "i"));
        }
        let (shift, mask, first) = (window.trailing_zeros(), window - 1, skipped / together);
        writeln!(text, "    let at = i + {first}u;\n    let j = at & {mask}u;\n    switch at >> {shift}u {{")?;
        for w in 1..*windows {
            writeln!(text, "        case {w}u: {{ {} }}", f(w, "j"))?;
        }
        writeln!(text, "        default: {{ {} }}\n    }}", f(0, "j"))
    };
    let atomic = shared_words(slot);
    if together > 1 {
        writeln!(text, "fn {name}_words(i: u32) -> vec{together}<u32> {{")?;
        choose(text, &|w, i| format!("return {name}_{w}[{i}];"))?;
        writeln!(
            text,
            "}}\nfn {name}_word(i: u32) -> u32 {{ return {name}_words(i / {together}u)[i % {together}u]; }}"
        )?;
        return Ok(());
    }
    if slot.access != Access::Write || atomic {
        writeln!(text, "fn {name}_word(i: u32) -> u32 {{")?;
        choose(text, &|w, i| match atomic {
            true => format!("return atomicLoad(&{name}_{w}[{i}]);"),
            false => format!("return {name}_{w}[{i}];"),
        })?;
        writeln!(text, "}}")?;
    }
    if slot.access != Access::Read {
        writeln!(text, "fn {name}_put(i: u32, word: u32) {{")?;
        choose(text, &|w, i| match atomic {
            true => format!("atomicStore(&{name}_{w}[{i}], word);"),
            false => format!("{name}_{w}[{i}] = word;"),
        })?;
        writeln!(text, "}}")?;
    }
    if atomic {
        // Bits of different owners are disjoint, so that the order of the two steps of each does not matter.
        writeln!(text, "fn {name}_merge(i: u32, mask: u32, bits: u32) {{")?;
        choose(text, &|w, i| format!("atomicAnd(&{name}_{w}[{i}], ~mask); atomicOr(&{name}_{w}[{i}], bits & mask);"))?;
        writeln!(text, "}}")?;
    }
    Ok(())
}

/// `NAME_load(i)`: element `i`. Of f32 also `NAME_load4(i, n)`, the first `n` of four elements from `i`, zeros behind them.
fn load(text: &mut String, slot: &Slot) -> std::fmt::Result {
    let name = slot.name;
    let (to, value) = match slot.storage {
        Storage::F32 => ("f32", format!("bitcast<f32>({name}_word(i))")),
        Storage::BF16 => ("f32", format!("bf16_value({name}_word(i >> 1u) >> ((i & 1u) << 4u))")),
        Storage::F16 => ("f32", format!("f16_value({name}_word(i >> 1u) >> ((i & 1u) << 4u))")),
        Storage::E4M3 => ("f32", format!("e4m3_value({name}_word(i >> 2u) >> ((i & 3u) << 3u))")),
        Storage::E2M1 => ("f32", format!("e2m1_value({name}_word(i >> 3u) >> ((i & 7u) << 2u))")),
        Storage::UE8M0 => ("f32", format!("scale_value({name}_word(i >> 2u) >> ((i & 3u) << 3u))")),
        Storage::I32 => ("i32", format!("bitcast<i32>({name}_word(i))")),
        Storage::Bytes => ("u32", format!("({name}_word(i >> 2u) >> ((i & 3u) << 3u)) & 255u")),
        // Not a constant expression, which may not be infinite.
        Storage::Absent(bits) => {
            writeln!(text, "var<private> {name}_default: u32 = {bits}u;")?;
            ("f32", format!("bitcast<f32>({name}_default)"))
        }
        Storage::NoIntegers => ("i32", "-1".into()),
    };
    writeln!(text, "fn {name}_load(i: u32) -> {to} {{ return {value}; }}")?;
    match slot.storage {
        // The exponent itself: two of them together are a power that f32 has where one of them is not.
        Storage::UE8M0 => writeln!(
            text,
            "fn {name}_times(v: vec4<f32>, i: u32) -> vec4<f32> {{ \
             return scaled(v, {name}_word(i >> 2u) >> ((i & 3u) << 3u)); }}\n\
             fn {name}_power(i: u32) -> Power {{ return power_of_scale({name}_word(i >> 2u) >> ((i & 3u) << 3u)); }}"
        ),
        Storage::F32 => writeln!(
            text,
            "fn {name}_load4(i: u32, n: u32) -> vec4<f32> {{
    var v = vec4<f32>();
    for (var j = 0u; j < 4u; j++) {{ if (j < n) {{ v[j] = {name}_load(i + j); }} }}
    return v;
}}
fn {name}_times(v: vec4<f32>, i: u32) -> vec4<f32> {{ return v * {name}_load(i); }}\n\
             fn {name}_power(i: u32) -> Power {{ return Power({name}_load(i), 0); }}"
        ),
        _ => Ok(()),
    }
}

/// `NAME_store(i, value)`: element `i`, rounded. For floats also `NAME_store2(i, a, b)`, elements `i` (even) and the next in
/// one word, and `NAME_store4(i, v, n)`, the first `n` of four elements from `i`, in as few words as they lie in.
fn store(text: &mut String, slot: &Slot) -> std::fmt::Result {
    let name = slot.name;
    let half = |text: &mut String, bits: &str| {
        writeln!(
            text,
            "fn {name}_store(i: u32, v: f32) {{ \
             let s = (i & 1u) << 4u; {name}_merge(i >> 1u, 0xffffu << s, {bits}(v) << s); }}\n\
             fn {name}_store2(i: u32, a: f32, b: f32) {{ {name}_put(i >> 1u, {bits}(a) | ({bits}(b) << 16u)); }}"
        )
    };
    let float = matches!(slot.storage, Storage::F32 | Storage::BF16 | Storage::F16);
    match slot.storage {
        Storage::F32 => writeln!(
            text,
            "fn {name}_store(i: u32, v: f32) {{ {name}_put(i, bitcast<u32>(v)); }}\n\
             fn {name}_store2(i: u32, a: f32, b: f32) {{ {name}_store(i, a); {name}_store(i + 1u, b); }}"
        ),
        Storage::BF16 => half(text, "bf16_bits"),
        Storage::F16 => half(text, "f16_bits"),
        Storage::I32 => writeln!(text, "fn {name}_store(i: u32, v: i32) {{ {name}_put(i, bitcast<u32>(v)); }}"),
        Storage::E4M3 | Storage::UE8M0 | Storage::Bytes => writeln!(
            text,
            "fn {name}_store(i: u32, v: u32) {{ \
             let s = (i & 3u) << 3u; {name}_merge(i >> 2u, 255u << s, v << s); }}"
        ),
        Storage::E2M1 => writeln!(
            text,
            "fn {name}_store(i: u32, v: u32) {{ \
             let s = (i & 7u) << 2u; {name}_merge(i >> 3u, 15u << s, v << s); }}"
        ),
        Storage::Absent(_) => writeln!(
            text,
            "fn {name}_store(i: u32, v: f32) {{ }}\nfn {name}_store4(i: u32, v: vec4<f32>, n: u32) {{ }}"
        ),
        Storage::NoIntegers => writeln!(text, "fn {name}_store(i: u32, v: i32) {{ }}"),
    }?;
    if !float {
        return Ok(());
    }
    writeln!(
        text,
        "fn {name}_store4(i: u32, v: vec4<f32>, n: u32) {{
    if (n == 4u && (i & 1u) == 0u) {{ {name}_store2(i, v.x, v.y); {name}_store2(i + 2u, v.z, v.w); return; }}
    for (var j = 0u; j < n; j++) {{ {name}_store(i + j, v[j]); }}
}}"
    )
}

/// `NAME_at(group, row, col)`: the element times its scale. `NAME_quad(group, row, col)`: the four from `col`, a multiple of
/// four, zero past the end of the row; `NAME_codes` the same without the scale, which is `NAME_factor`: m 2^n.
fn read_matrix(text: &mut String, slot: &Slot, matrix: &MatrixRead) -> std::fmt::Result {
    let name = slot.name;
    match matrix.block {
        None => writeln!(text, "fn {name}_factor(g: u32, r: u32, c: u32) -> Power {{ return Power(1.0, 0); }}")?,
        Some((rows, cols)) => writeln!(
            text,
            "fn {name}_block(g: u32, r: u32, c: u32) -> u32 {{\n    \
             let down = ({name}_rows() + {rows}u - 1u) / {rows}u;\n    \
             let across = ({name}_cols() + {cols}u - 1u) / {cols}u;\n    \
             return (g * down + r / {rows}u) * across + c / {cols}u;\n}}\n\
             fn {name}_factor(g: u32, r: u32, c: u32) -> Power {{ \
             return {name}_scale_power({name}_block(g, r, c)); }}"
        )?,
    }
    let scaled = |v: String| match matrix.block {
        Some(_) => format!("{name}_scale_times({v}, {name}_block(g, r, c))"),
        None => v,
    };
    let one = scaled(format!("vec4<f32>({name}_load((g * {name}_rows() + r) * {name}_cols() + c))"));
    let four = scaled(format!("{name}_codes(g, r, c)"));
    writeln!(
        text,
        "fn {name}_at(g: u32, r: u32, c: u32) -> f32 {{ \
         return ({one}).x; }}"
    )?;
    let signature = "(g: u32, r: u32, c: u32) -> vec4<f32>";
    if !matrix.aligned {
        for (what, element) in [("codes", "load((g * NAME_rows() + r) * n + c + J)"), ("quad", "at(g, r, c + J)")] {
            let element = element.replace("NAME", name);
            writeln!(text, "fn {name}_{what}{signature} {{\n    var v = vec4<f32>();\n    let n = {name}_cols();")?;
            for j in 0..4 {
                let element = element.replace('J', &format!("{j}u"));
                writeln!(text, "    if (c + {j}u < n) {{ v[{j}] = {name}_{element}; }}")?;
            }
            writeln!(text, "    return v;\n}}")?;
        }
        return Ok(());
    }
    let values = match slot.storage {
        Storage::F32 => format!("bitcast<vec4<f32>>({name}_words(i >> 2u))"),
        Storage::BF16 => format!("bf16_values({name}_words(i >> 2u))"),
        Storage::F16 => format!("f16_values({name}_words(i >> 2u))"),
        Storage::E4M3 => format!("e4m3_values({name}_word(i >> 2u))"),
        Storage::E2M1 => format!("e2m1_values({name}_word(i >> 3u) >> ((i & 4u) << 2u))"),
        _ => format!("vec4<f32>({name}_load(i), {name}_load(i + 1u), {name}_load(i + 2u), {name}_load(i + 3u))"),
    };
    writeln!(
        text,
        "fn {name}_codes{signature} {{\n    let i = (g * {name}_rows() + r) * {name}_cols() + c;\n    \
         return {values};\n}}\n\
         fn {name}_quad{signature} {{ return {four}; }}"
    )
}

/// `NAME_locate(sequence, entry)`: the slot, page times 64 plus place, or -1 where the pool has none. `NAME_entry(slot, d)`: an
/// element. `NAME_entries(slot, d)`: the four from `d`, a multiple of four, zero past the end.
fn read_pool(text: &mut String, slot: &Slot, pool: &PoolRead) -> std::fmt::Result {
    let name = slot.name;
    let PoolRead { form, data_bytes, scale_bytes, page_bytes } = *pool;
    let (dim, aligned) = match form {
        PoolForm::F32(dim) => (dim, dim.is_multiple_of(4)),
        PoolForm::Fp8(nope, rope) => (nope + rope, nope.is_multiple_of(4) && rope.is_multiple_of(4)),
        PoolForm::Fp4(dim) => (dim, dim.is_multiple_of(4)),
        PoolForm::Absent => {
            return writeln!(
                text,
                "fn {name}_locate(sequence: i32, entry: i32) -> i32 {{ return -1; }}\n\
                 fn {name}_entry(slot: u32, d: u32) -> f32 {{ return 0.0; }}\n\
                 fn {name}_entries(slot: u32, d: u32) -> vec4<f32> {{ return vec4<f32>(); }}"
            );
        }
    };
    writeln!(
        text,
        "fn {name}_locate(sequence: i32, entry: i32) -> i32 {{
    if (sequence < 0 || u32(sequence) >= {name}_sequences() || entry < 0) {{ return -1; }}
    if (u32(entry) / 64u >= {name}_table_pages()) {{ return -1; }}
    let page = {name}_table_load(u32(sequence) * {name}_table_pages() + u32(entry) / 64u);
    if (page < 0 || u32(page) >= {name}_pages()) {{ return -1; }}
    return page * 64 + entry % 64;
}}
fn {name}_data_byte(slot: u32) -> u32 {{ return slot / 64u * {page_bytes}u + slot % 64u * {data_bytes}u; }}
fn {name}_scale_byte(slot: u32, block: u32) -> u32 {{
    return slot / 64u * {page_bytes}u + 64u * {data_bytes}u + slot % 64u * {scale_bytes}u + block;
}}"
    )?;
    if slot.access == Access::Write {
        return Ok(());
    }
    let scaled = |v: String, block: u32| format!("scaled({v}, {name}_load({name}_scale_byte(slot, d / {block}u)))");
    let bf16 = |from: u32| {
        format!(
            "let at = {name}_data_byte(slot) + {from}u + 2u * (d - {from}u); \
             return bf16_value({name}_word(at >> 2u) >> ((at & 2u) << 3u));"
        )
    };
    let one = match form {
        PoolForm::Fp8(nope, _) => format!(
            "if (d < {nope}u) {{ return ({}).x; }} {}",
            scaled(format!("vec4<f32>(e4m3_value({name}_load({name}_data_byte(slot) + d)))"), 64),
            bf16(nope)
        ),
        PoolForm::Fp4(_) => format!(
            "return ({}).x;",
            scaled(
                format!("vec4<f32>(e2m1_value({name}_load({name}_data_byte(slot) + d / 2u) >> ((d & 1u) << 2u)))"),
                32
            )
        ),
        _ => format!("return bitcast<f32>({name}_word({name}_data_byte(slot) / 4u + d));"),
    };
    writeln!(text, "fn {name}_entry(slot: u32, d: u32) -> f32 {{ {one} }}")?;
    let four = match form {
        _ if !aligned => format!(
            "var v = vec4<f32>(); for (var j = 0u; j < 4u; j++) {{ \
             if (d + j < {dim}u) {{ v[j] = {name}_entry(slot, d + j); }} }} return v;"
        ),
        PoolForm::Fp8(nope, _) => format!(
            "if (d < {nope}u) {{ return {}; }} \
             let at = ({name}_data_byte(slot) + {nope}u + 2u * (d - {nope}u)) / 4u; \
             return bf16_values(vec2<u32>({name}_word(at), {name}_word(at + 1u)));",
            scaled(format!("e4m3_values({name}_word(({name}_data_byte(slot) + d) / 4u))"), 64)
        ),
        PoolForm::Fp4(_) => format!(
            "let at = {name}_data_byte(slot) + d / 2u; \
             return {};",
            scaled(format!("e2m1_values({name}_word(at / 4u) >> ((at & 2u) << 3u))"), 32)
        ),
        // Only what is not written is bound in vectors.
        _ if slot.together() == 4 => {
            format!("return bitcast<vec4<f32>>({name}_words(({name}_data_byte(slot) / 4u + d) / 4u));")
        }
        _ => {
            let four = ["", " + 1u", " + 2u", " + 3u"].map(|j| format!("{name}_entry(slot, d{j})")).join(", ");
            format!("return vec4<f32>({four});")
        }
    };
    writeln!(text, "fn {name}_entries(slot: u32, d: u32) -> vec4<f32> {{ {four} }}")
}
