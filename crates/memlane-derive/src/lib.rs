//! `#[derive(Shareable)]`: says at compile time how a struct lies in shared memory.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Fields, parse_macro_input};

/// Implements `memlane::Shareable` for a `#[repr(C)]` struct with named fields that are all `Shareable`; the last
/// one may be a flexible tail.
#[proc_macro_derive(Shareable)]
pub fn shareable(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> Result<Tokens, Error> {
    let fields = fields(input)?;
    require_repr_c(input)?;
    let Some((last, init)) = fields.split_last() else {
        return Err(Error::new(input.ident.span(), "a struct without fields has nothing to share"));
    };
    let name = &input.ident;
    let text = name.to_string();
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();

    let last_type = &last.ty;
    // Each bound carries its field's span, so that "may not live in shared memory" points at the field.
    let bounds = fields.iter().map(|field| {
        let ty = &field.ty;
        quote_spanned!(ty.span()=> #ty: ::memlane::Shareable)
    });
    let sized = init.iter().map(|field| {
        let ty = &field.ty;
        quote_spanned!(ty.span()=> #ty: ::memlane::Shareable<Tail = ()>)
    });
    let mut predicates: Vec<Tokens> = Vec::new();
    if input.generics.type_params().next().is_some() {
        predicates.extend(bounds);
        predicates.extend(sized);
    }
    let given = where_clause.map(|clause| clause.predicates.iter().map(|p| quote!(#p)).collect::<Vec<_>>());
    predicates.extend(given.into_iter().flatten());

    let layouts: Vec<Tokens> = fields
        .iter()
        .map(|field| {
            let ty = &field.ty;
            quote_spanned!(ty.span()=> <#ty as ::memlane::Shareable>::LAYOUT)
        })
        .collect();
    let plain = fields.iter().map(|field| {
        let ty = &field.ty;
        quote_spanned!(ty.span()=> <#ty as ::memlane::Shareable>::PLAIN)
    });
    let layout = layouts.iter().fold(quote!(::memlane::Layout::EMPTY), |layout, field| quote!(#layout.with(#field)));
    let describe = describe(&quote!(#name #type_generics), &fields, &layouts);

    // Naming the last field's type in an associated type would demand that it is as public as the struct; asking for
    // a constant of it does not. In a generic struct a constant cannot be asked for there.
    let tail = if input.generics.params.is_empty() {
        quote!(<::memlane::TailIf<{ <#last_type as ::memlane::Shareable>::LAYOUT.has_tail() }> as ::memlane::PickTail>::Tail)
    } else {
        quote!(<#last_type as ::memlane::Shareable>::Tail)
    };

    Ok(quote! {
        // SAFETY: the struct is `repr(C)` and all its fields are `Shareable`; the layout is computed by the rules of
        // `repr(C)`. The tail of the last field is the tail of the struct, so the cast keeps address and metadata.
        unsafe impl #impl_generics ::memlane::Shareable for #name #type_generics where #(#predicates,)* {
            type Tail = #tail;
            const LAYOUT: ::memlane::Layout = #layout;
            const PLAIN: bool = #(#plain)&&*;

            fn describe(schema: &mut ::memlane::Schema, path: &str, offset: usize) {
                schema.line(path, #text, offset, Self::LAYOUT.base_size());
                #(#describe)*
            }

            fn from_base(base: *mut u8, tail: Self::Tail) -> *mut Self {
                <#last_type as ::memlane::Shareable>::from_base(base, tail) as *mut Self
            }
        }
    })
}

/// The calls that describe each field in turn.
fn describe(this: &Tokens, fields: &[&Field], layouts: &[Tokens]) -> Vec<Tokens> {
    let mut before = quote!(::memlane::Layout::EMPTY);
    let mut calls = Vec::new();
    for (index, (field, field_layout)) in fields.iter().zip(layouts).enumerate() {
        let (ident, ty) = (&field.ident, &field.ty);
        // The offset of an unsized field cannot be asked for.
        let check = (index + 1 < fields.len())
            .then(|| quote!(assert!(offset == ::core::mem::offset_of!(#this, #ident), "the layout is not repr(C)");));
        let field_name = ident.as_ref().map(ToString::to_string).unwrap_or_default();
        calls.push(quote! {
            <#ty as ::memlane::Shareable>::describe(
                schema,
                &::memlane::field_path(path, #field_name),
                offset + const {
                    let offset = #before.next_offset(#field_layout);
                    #check
                    offset
                },
            );
        });
        before = quote!(#before.with(#field_layout));
    }
    calls
}

/// The fields, if this is a struct with named ones.
fn fields(input: &DeriveInput) -> Result<Vec<&Field>, Error> {
    let refuse = |what| Err(Error::new(input.ident.span(), what));
    match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => Ok(fields.named.iter().collect()),
            _ => refuse("name the fields: their names are part of what two programs agree on"),
        },
        Data::Enum(_) => refuse("an enum may not live in shared memory: use an integer, and constants for its values"),
        Data::Union(_) => refuse("a union may not live in shared memory: use a struct"),
    }
}

/// Refuses anything but `#[repr(C)]` alone.
fn require_repr_c(input: &DeriveInput) -> Result<(), Error> {
    let mut c = false;
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("repr")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("C") {
                c = true;
                Ok(())
            } else {
                Err(meta.error("only #[repr(C)] structs may live in shared memory, without packed or align"))
            }
        })?;
    }
    if c {
        Ok(())
    } else {
        Err(Error::new(input.ident.span(), "add #[repr(C)]: the layout must be the same in every program"))
    }
}
