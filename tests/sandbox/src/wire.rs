//! Small things that many answers have.

/// Sets the checksum fields of an answer that has all of them.
macro_rules! set_checksum {
    ($output:expr, $checksum:expr) => {
        if let Some(checksum) = $checksum {
            let checksum: &$crate::checksums::Checksum = checksum;
            $crate::wire::set_checksum_value!($output, checksum);
            $output.checksum_type = Some(s3s::dto::ChecksumType::from_static(checksum.type_name()));
        }
    };
}

/// Sets the checksum fields of an answer that does not tell their type.
macro_rules! set_checksum_value {
    ($output:expr, $checksum:expr) => {{
        use $crate::checksums::Algorithm;
        let value = Some($checksum.value.clone());
        match $checksum.algorithm {
            Algorithm::Crc32 => $output.checksum_crc32 = value,
            Algorithm::Crc32c => $output.checksum_crc32c = value,
            Algorithm::Crc64Nvme => $output.checksum_crc64nvme = value,
            Algorithm::Sha1 => $output.checksum_sha1 = value,
            Algorithm::Sha256 => $output.checksum_sha256 = value,
        }
    }};
}

pub(crate) use {set_checksum, set_checksum_value};
