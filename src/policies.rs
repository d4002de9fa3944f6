//! `policy`: prints the policies that enforce MFA on a bucket.
//!
//! They follow the Amazon S3 user guide, "Requiring MFA", and the IAM user guide, "Configuring
//! MFA-protected API access": `Null` of `aws:MultiFactorAuthAge` is met by codes only, where
//! `MultiFactorAuthPresent` has traps for who forgets that long-term keys do not carry it.

use std::io::Write;

use serde_json::{Value, json};

use crate::cli::{PolicyArgs, PolicyKind};
use crate::config::bucket_and_prefix;
use crate::mount::MountError;

/// Prints them.
pub(crate) fn print(args: &PolicyArgs) -> Result<(), MountError> {
    let (bucket, prefix) = bucket_and_prefix(&args.bucket)?;
    let policies = Policies {
        partition: &args.partition,
        bucket: &bucket,
        prefix: &prefix,
        max_age: args.max_age,
        account: args.account.as_deref().unwrap_or("ACCOUNT"),
    };
    let text = match args.kind {
        Some(PolicyKind::Bucket) => format!("{:#}\n", policies.bucket()),
        Some(PolicyKind::User) => format!("{:#}\n", policies.user()),
        Some(PolicyKind::Trust) => format!("{:#}\n", policies.trust()),
        None => policies.all(),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|error| MountError::Other(error.to_string())),
    }
}

struct Policies<'a> {
    partition: &'a str,
    bucket: &'a str,
    /// Empty, or ends with `/`.
    prefix: &'a str,
    max_age: Option<u64>,
    account: &'a str,
}

impl Policies<'_> {
    fn arn(&self) -> String {
        format!("arn:{}:s3:::{}", self.partition, self.bucket)
    }

    /// Denies everything to who has not given a code, or not lately.
    fn bucket(&self) -> Value {
        let arn = self.arn();
        let resource = match self.prefix {
            "" => json!([arn, format!("{arn}/*")]),
            prefix => json!([format!("{arn}/{prefix}*")]),
        };
        let deny = |sid: &str, condition: Value| {
            json!({
                "Sid": sid, "Effect": "Deny", "Principal": "*", "Action": "s3:*",
                "Resource": resource.clone(), "Condition": condition,
            })
        };
        let mut statements = vec![deny(
            "NothingWithoutMFA",
            json!({"Null": {"aws:MultiFactorAuthAge": "true"}}),
        )];
        if let Some(seconds) = self.max_age {
            statements.push(deny(
                "NothingWithAnOldCode",
                json!({"NumericGreaterThan": {"aws:MultiFactorAuthAge": seconds.to_string()}}),
            ));
        }
        json!({"Version": "2012-10-17", "Statement": statements})
    }

    /// Lets a user in with MFA, and find their device without.
    fn user(&self) -> Value {
        let arn = self.arn();
        let with_mfa = json!({"Bool": {"aws:MultiFactorAuthPresent": "true"}});
        let mut list = json!({
            "Sid": "ListWithMFA", "Effect": "Allow", "Action": "s3:ListBucket", "Resource": arn,
            "Condition": with_mfa.clone(),
        });
        if !self.prefix.is_empty() {
            let prefixes = json!([self.prefix, format!("{}*", self.prefix)]);
            list["Condition"]["StringLike"] = json!({"s3:prefix": prefixes});
        }
        json!({"Version": "2012-10-17", "Statement": [
            list,
            {
                "Sid": "ReadAndWriteWithMFA", "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject",
                           "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
                "Resource": format!("{arn}/{}*", self.prefix), "Condition": with_mfa,
            },
            {
                "Sid": "FindOwnDevice", "Effect": "Allow", "Action": "iam:ListMFADevices",
                "Resource": format!(
                    "arn:{}:iam::{}:user/${{aws:username}}", self.partition, self.account
                ),
            },
        ]})
    }

    /// Lets the account's users assume a role with MFA.
    fn trust(&self) -> Value {
        json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": {"AWS": format!("arn:{}:iam::{}:root", self.partition, self.account)},
            "Action": "sts:AssumeRole",
            "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}},
        }]})
    }

    fn all(&self) -> String {
        let bucket = self.bucket;
        format!(
            "# 1. The bucket's policy: nothing without MFA, for anybody. Also for services and roles that\n\
             # have none (replication, CloudTrail, SSO): give those an exception before you put it.\n\
             # s3mfa-mount policy {bucket} --kind bucket >policy.json\n\
             # aws s3api put-bucket-policy --bucket {bucket} --policy file://policy.json\n\
             {:#}\n\n\
             # 2. A user's policy: this bucket with MFA.\n\
             # s3mfa-mount policy {bucket} --kind user >policy.json\n\
             # aws iam put-user-policy --user-name USER --policy-name {bucket}-with-mfa \
             --policy-document file://policy.json\n\
             {:#}\n\n\
             # 3. A role's trust policy: assumed with MFA only. It does not make S3 hear of the MFA, but\n\
             # for sessions of GetSessionToken (--credentials session-token-then-role).\n\
             # s3mfa-mount policy {bucket} --kind trust >trust.json\n\
             # aws iam update-assume-role-policy --role-name ROLE --policy-document file://trust.json\n\
             {:#}\n",
            self.bucket(),
            self.user(),
            self.trust()
        )
    }
}
